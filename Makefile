# Everything a newcomer needs: `make demo` and `make test`. Both set up .venv by themselves.
# What each target does stands in tools/make.py, which is for systems without make too: `python tools/make.py demo`.
PYTHON ?= python3
# A file of exact versions, for runs that must be repeatable: `make check CONSTRAINTS=constraints.txt`.
CONSTRAINTS ?=

.PHONY: demo install test check check-lowest format docs bench dist clean

demo install test check check-lowest format docs bench dist clean:
	@$(PYTHON) tools/make.py $@ CONSTRAINTS=$(CONSTRAINTS)
