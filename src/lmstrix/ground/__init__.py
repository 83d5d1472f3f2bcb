"""What everything knows and what knows nothing: records, errors, the backend's protocol, settings, paths, units."""
