/* Makes one chosen call that changes a regular file fail: preloaded into a process, which then names the call by number. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int left, chosen_errno, failed, synced;

/* The call that comes as number `n` from now on fails with `error`; 0 for none. Returns whether the last one chosen has. */
int fail_call(int n, int error) {
    int before = failed;
    left = n;
    chosen_errno = error;
    failed = 0;
    return before;
}

/* How often something was put on the disk since this was last asked. */
int synced_since(void) {
    int before = synced;
    synced = 0;
    return before;
}

static int fails(void) {
    if (left == 0 || --left != 0) return 0;
    failed = 1;
    errno = chosen_errno;
    return 1;
}

static int is_file(int fd) {
    struct stat info;
    return fstat(fd, &info) == 0 && (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode));
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ON_FILE(result, name, parameters, arguments) \
    result name parameters { return is_file(fd) && fails() ? -1 : REAL(name) arguments; }
#define ON_PATH(name, parameters, arguments) \
    int name parameters { return fails() ? -1 : REAL(name) arguments; }

ON_FILE(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
ON_FILE(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
ON_FILE(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
ON_FILE(ssize_t, sendfile, (int fd, int from, off_t *at, size_t size), (fd, from, at, size))
ON_FILE(ssize_t, sendfile64, (int fd, int from, off64_t *at, size_t size), (fd, from, at, size))
#define SYNCING(name) \
    int name(int fd) { synced += 1; return is_file(fd) && fails() ? -1 : REAL(name)(fd); }
SYNCING(fsync)
SYNCING(fdatasync)
ON_FILE(int, ftruncate, (int fd, off_t size), (fd, size))
ON_FILE(int, ftruncate64, (int fd, off64_t size), (fd, size))
ON_PATH(rename, (const char *from, const char *to), (from, to))
ON_PATH(mkdir, (const char *path, mode_t mode), (path, mode))

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int mode = va_arg(rest, int);
    va_end(rest);
    return (flags & O_CREAT) && fails() ? -1 : REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int mode = va_arg(rest, int);
    va_end(rest);
    return (flags & O_CREAT) && fails() ? -1 : REAL(open64)(path, flags, mode);
}
