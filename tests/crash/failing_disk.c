/* A disk and a clock that fail on demand, for processes that are started with LD_PRELOAD.

   The file named by $FAILING_DISK says how, and may change at any time; without it all is well:

     CALLS ERRNO WORDS   calls ("open", "read", "write" or "sync") on files whose path holds these
                         words fail with this number; opening for reading alone is not "open"
     clock SECONDS       the wall clock is ahead by so much; the monotonic one is not touched
     kill WORDS          whoever opens a file whose path holds these words is killed

   One line only. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static int demand(char *text, int size)
{
    const char *file = getenv("FAILING_DISK");
    if (!file)
        return 0;
    int fd = syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    long n = syscall(SYS_read, fd, text, size - 1);
    syscall(SYS_close, fd);
    if (n <= 0)
        return 0;
    text[n] = 0;
    text[strcspn(text, "\n")] = 0;
    return 1;
}

static int fails(const char *call, const char *path)
{
    char text[512], name[16], words[256];
    int number;
    if (!demand(text, sizeof text))
        return 0;
    if (sscanf(text, "%15s %d %255s", name, &number, words) != 3)
        return 0;
    if (strcmp(name, call) || !strstr(path, words))
        return 0;
    errno = number;
    return 1;
}

static int fd_fails(const char *call, int fd)
{
    char link[64], path[4096];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    errno = before;
    if (n < 0)
        return 0;
    path[n] = 0;
    return fails(call, path);
}

static int open_fails(const char *path, int flags)
{
    char text[512], words[256];
    if (demand(text, sizeof text) && sscanf(text, "kill %255s", words) == 1 && strstr(path, words))
        kill(getpid(), SIGKILL);
    return (flags & O_ACCMODE) != O_RDONLY && fails("open", path);
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) \
        real = (type(*)(__VA_ARGS__)) dlsym(RTLD_NEXT, #name)

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(int, name, const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        int mode = va_arg(rest, int); \
        va_end(rest); \
        return open_fails(path, flags) ? -1 : real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

ssize_t pwrite(int fd, const void *from, size_t n, off_t at)
{
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    return fd_fails("write", fd) ? -1 : real(fd, from, n, at);
}

ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at)
{
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    return fd_fails("write", fd) ? -1 : real(fd, from, n, at);
}

ssize_t write(int fd, const void *from, size_t n)
{
    REAL(ssize_t, write, int, const void *, size_t);
    return fd > 2 && fd_fails("write", fd) ? -1 : real(fd, from, n);
}

ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    REAL(ssize_t, pread, int, void *, size_t, off_t);
    return fd_fails("read", fd) ? -1 : real(fd, to, n, at);
}

ssize_t pread64(int fd, void *to, size_t n, off64_t at)
{
    REAL(ssize_t, pread64, int, void *, size_t, off64_t);
    return fd_fails("read", fd) ? -1 : real(fd, to, n, at);
}

int fsync(int fd)
{
    REAL(int, fsync, int);
    return fd_fails("sync", fd) ? -1 : real(fd);
}

int fdatasync(int fd)
{
    REAL(int, fdatasync, int);
    return fd_fails("sync", fd) ? -1 : real(fd);
}

static long ahead(void)
{
    char text[512];
    long seconds = 0;
    int before = errno;
    if (demand(text, sizeof text))
        sscanf(text, "clock %ld", &seconds);
    errno = before;
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *to)
{
    int failed = syscall(SYS_clock_gettime, clock, to);
    if (!failed && clock == CLOCK_REALTIME)
        to->tv_sec += ahead();
    return failed;
}

time_t time(time_t *to)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to)
        *to = now.tv_sec;
    return now.tv_sec;
}
