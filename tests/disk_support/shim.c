/*
 * Stands between the daemon and its disk (LD_PRELOAD), for tests/disk.rs. Two things:
 *
 * - it writes down, in order, everything that is done to files below $SHIM_ROOT: what is made, written,
 *   named and fsynced, and when the daemon says yes to a client. tests/disk_support/replay.rs makes of
 *   that what a power cut at any place would have left;
 * - it answers errors in the disk's place, as the page at $SHIM_CONTROL orders.
 *
 * One lock is held over each call and its note: the record's order is the true one. Memory maps are not
 * seen; the only shared one is SQLite's -shm file, which a power cut takes along whatever is in it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

/* The test's orders and our answers; all little numbers of one machine. */
struct control {
    volatile int32_t skip;  /* let so many calls pass, */
    volatile int32_t fail;  /* then refuse so many, */
    volatile int32_t error; /* with this errno. */
    volatile int32_t calls; /* that were counted */
    volatile int32_t refused;
};

enum { MOST = 65536 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char ours[MOST]; /* descriptors of files below the root */
static char root[4096];
static size_t root_length;
static int record = -1;
static struct control *control;
static ssize_t (*real_writev)(int, const struct iovec *, int);

__attribute__((constructor)) static void begin(void) {
    real_writev = (ssize_t (*)(int, const struct iovec *, int))dlsym(RTLD_NEXT, "writev");
    const char *where = getenv("SHIM_ROOT");
    if (!where || !realpath(where, root)) return;
    root_length = strlen(root);
    int (*open_it)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    const char *path = getenv("SHIM_RECORD");
    if (path) record = open_it(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    path = getenv("SHIM_CONTROL");
    if (path) {
        int page = open_it(path, O_RDWR | O_CLOEXEC);
        void *mapped = page < 0 ? MAP_FAILED : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, page, 0);
        if (mapped != MAP_FAILED) control = mapped;
    }
    /* The daemon's engine processes keep LD_* only: they have no root and are left alone. */
}

/* Below the root, relative to it; NULL if not. `room` holds 4096. */
static const char *below(int folder, const char *path, char *room) {
    if (!root_length) return NULL;
    if (path[0] == '/') {
        snprintf(room, 4096, "%s", path);
    } else {
        char link[64];
        if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, room, 4095);
        if (length < 0) return NULL;
        snprintf(room + length, 4096 - (size_t)length, "/%s", path);
    }
    if (strncmp(room, root, root_length) || (room[root_length] != '/' && room[root_length])) return NULL;
    return room[root_length] ? room + root_length + 1 : "";
}

static void note(const char *head, const void *data, size_t length) {
    if (record < 0) return;
    struct iovec parts[] = {{(void *)head, strlen(head)}, {(void *)data, length}};
    if (real_writev(record, parts, length ? 2 : 1) < 0) abort();
}

/* Whether this call is to fail. The kind and the place are written down. */
static int refused(const char *kind, const char *where) {
    if (!control) return 0;
    control->calls++;
    if (control->fail <= 0) return 0;
    if (control->skip > 0) {
        control->skip--;
        return 0;
    }
    control->fail--;
    control->refused++;
    char line[4300];
    snprintf(line, sizeof line, "F %s %s\n", kind, where);
    note(line, NULL, 0);
    errno = control->error;
    return 1;
}

static int is_ours(int fd) {
    return fd >= 0 && fd < MOST && ours[fd];
}

static int refused_fd(const char *kind, int fd) {
    char link[64], path[4096], room[4096];
    if (!control) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    const char *where = below(AT_FDCWD, path, room);
    return refused(kind, where ? where : "?");
}

static unsigned long number_of(int fd) {
    struct stat found;
    return fstat(fd, &found) ? 0 : (unsigned long)found.st_ino;
}

/* -- names */

static int opened(int folder, const char *path, int flags, mode_t mode, const char *real_name) {
    REAL(int, "openat", int, const char *, int, ...);
    (void)real_name;
    char room[4096], line[4300];
    const char *where = below(folder, path, room);
    if (!where || flags & O_PATH) {
        int fd = real(folder, path, flags, mode);
        return fd;
    }
    pthread_mutex_lock(&lock);
    struct stat found;
    int was_there = !fstatat(folder, path, &found, flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0);
    int fd = -1;
    if ((flags & O_CREAT && !was_there && refused("make", where)) || (flags & O_TRUNC && was_there && refused("cut", where))) {
        pthread_mutex_unlock(&lock);
        return -1;
    }
    fd = real(folder, path, flags, mode);
    int error = errno;
    if (fd >= 0 && fd < MOST) {
        ours[fd] = 1;
        if (flags & O_CREAT && !was_there) {
            snprintf(line, sizeof line, "C %lu %s\n", number_of(fd), where);
            note(line, NULL, 0);
        } else if (flags & O_TRUNC) {
            snprintf(line, sizeof line, "T %lu 0\n", number_of(fd));
            note(line, NULL, 0);
        }
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define MODE() \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }

EXPORT int open(const char *path, int flags, ...) { MODE() return opened(AT_FDCWD, path, flags, mode, "open"); }
EXPORT int open64(const char *path, int flags, ...) { MODE() return opened(AT_FDCWD, path, flags | O_LARGEFILE, mode, "open64"); }
EXPORT int openat(int folder, const char *path, int flags, ...) { MODE() return opened(folder, path, flags, mode, "openat"); }
EXPORT int openat64(int folder, const char *path, int flags, ...) {
    MODE() return opened(folder, path, flags | O_LARGEFILE, mode, "openat64");
}

EXPORT int close(int fd) {
    REAL(int, "close", int);
    if (fd >= 0 && fd < MOST) ours[fd] = 0;
    return real(fd);
}

EXPORT int mkdirat(int folder, const char *path, mode_t mode) {
    REAL(int, "mkdirat", int, const char *, mode_t);
    char room[4096], line[4300];
    const char *where = below(folder, path, room);
    if (!where) return real(folder, path, mode);
    pthread_mutex_lock(&lock);
    int answer = refused("mkdir", where) ? -1 : real(folder, path, mode);
    int error = errno;
    if (!answer) {
        struct stat found;
        fstatat(folder, path, &found, 0);
        snprintf(line, sizeof line, "D %lu %s\n", (unsigned long)found.st_ino, where);
        note(line, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return answer;
}
EXPORT int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

static int two_names(const char *kind, int from, const char *old, int to, const char *new, int (*act)(int, const char *, int, const char *, unsigned), unsigned flags) {
    char room1[4096], room2[4096], line[8600];
    const char *source = below(from, old, room1), *target = below(to, new, room2);
    if (!source || !target) return act(from, old, to, new, flags);
    pthread_mutex_lock(&lock);
    int answer = refused(kind[0] == 'R' ? "rename" : "link", target) ? -1 : act(from, old, to, new, flags);
    int error = errno;
    if (!answer) {
        snprintf(line, sizeof line, "%s %s\t%s\n", kind, source, target);
        note(line, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return answer;
}

static int do_rename(int from, const char *old, int to, const char *new, unsigned flags) {
    REAL(int, "renameat", int, const char *, int, const char *);
    (void)flags;
    return real(from, old, to, new);
}
static int do_rename2(int from, const char *old, int to, const char *new, unsigned flags) {
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
    return real(from, old, to, new, flags);
}
static int do_link(int from, const char *old, int to, const char *new, unsigned flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    return real(from, old, to, new, (int)flags);
}

EXPORT int rename(const char *old, const char *new) { return two_names("R", AT_FDCWD, old, AT_FDCWD, new, do_rename, 0); }
EXPORT int renameat(int from, const char *old, int to, const char *new) { return two_names("R", from, old, to, new, do_rename, 0); }
EXPORT int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    return two_names("R", from, old, to, new, do_rename2, flags);
}
EXPORT int link(const char *old, const char *new) { return two_names("L", AT_FDCWD, old, AT_FDCWD, new, do_link, 0); }
EXPORT int linkat(int from, const char *old, int to, const char *new, int flags) {
    return two_names("L", from, old, to, new, do_link, (unsigned)flags);
}

EXPORT int unlinkat(int folder, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    char room[4096], line[4300];
    const char *where = below(folder, path, room);
    if (!where) return real(folder, path, flags);
    pthread_mutex_lock(&lock);
    struct stat found;
    /* Of a name that is not there nothing is written, and nothing can fail. */
    int is_there = !fstatat(folder, path, &found, AT_SYMLINK_NOFOLLOW);
    int answer = is_there && refused("unlink", where) ? -1 : real(folder, path, flags);
    int error = errno;
    if (!answer) {
        snprintf(line, sizeof line, "U %s\n", where);
        note(line, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return answer;
}
EXPORT int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
EXPORT int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

/* -- bytes */

static void wrote(int fd, off_t at, const void *data, ssize_t length) {
    char line[128];
    if (length <= 0) return;
    snprintf(line, sizeof line, "W %lu %lld %zd\n", number_of(fd), (long long)at, length);
    note(line, data, (size_t)length);
    note("\n", NULL, 0);
}

/* An answer to a client, which must not run ahead of the disk. */
static void said(const void *data, size_t length) {
    if (length < 4 || !root_length) return;
    if (memcmp(data, "226 ", 4) && memcmp(data, "250 ", 4)) return;
    char line[16];
    snprintf(line, sizeof line, "M %.3s\n", (const char *)data);
    pthread_mutex_lock(&lock);
    note(line, NULL, 0);
    pthread_mutex_unlock(&lock);
}

EXPORT ssize_t write(int fd, const void *data, size_t length) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (!is_ours(fd)) {
        said(data, length);
        return real(fd, data, length);
    }
    pthread_mutex_lock(&lock);
    ssize_t answer = refused_fd("write", fd) ? -1 : real(fd, data, length);
    int error = errno;
    if (answer > 0) wrote(fd, lseek(fd, 0, SEEK_CUR) - answer, data, answer);
    pthread_mutex_unlock(&lock);
    errno = error;
    return answer;
}

EXPORT ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!is_ours(fd)) {
        if (count > 0) said(parts[0].iov_base, parts[0].iov_len);
        return real_writev(fd, parts, count);
    }
    /* The first part only: the caller goes on from there. */
    return count > 0 ? write(fd, parts[0].iov_base, parts[0].iov_len) : 0;
}

EXPORT ssize_t send(int fd, const void *data, size_t length, int flags) {
    REAL(ssize_t, "send", int, const void *, size_t, int);
    said(data, length);
    return real(fd, data, length, flags);
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    if (!is_ours(fd)) return real(fd, data, length, at);
    pthread_mutex_lock(&lock);
    ssize_t answer = refused_fd("write", fd) ? -1 : real(fd, data, length, at);
    int error = errno;
    wrote(fd, at, data, answer);
    pthread_mutex_unlock(&lock);
    errno = error;
    return answer;
}
EXPORT ssize_t pwrite(int fd, const void *data, size_t length, off_t at) { return pwrite64(fd, data, length, at); }

EXPORT int ftruncate64(int fd, off64_t length) {
    REAL(int, "ftruncate64", int, off64_t);
    if (!is_ours(fd)) return real(fd, length);
    char line[128];
    pthread_mutex_lock(&lock);
    int answer = refused_fd("cut", fd) ? -1 : real(fd, length);
    int error = errno;
    if (!answer) {
        snprintf(line, sizeof line, "T %lu %lld\n", number_of(fd), (long long)length);
        note(line, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return answer;
}
EXPORT int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

/* Ways that this recorder does not know: the caller has another. */
EXPORT ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t length, unsigned flags) {
    (void)in, (void)from, (void)out, (void)to, (void)length, (void)flags;
    errno = ENOSYS;
    return -1;
}
EXPORT int posix_fallocate64(int fd, off64_t at, off64_t length) { (void)fd, (void)at, (void)length; return EOPNOTSUPP; }
EXPORT int posix_fallocate(int fd, off_t at, off_t length) { (void)fd, (void)at, (void)length; return EOPNOTSUPP; }
EXPORT int fallocate64(int fd, int mode, off64_t at, off64_t length) {
    (void)fd, (void)mode, (void)at, (void)length;
    errno = EOPNOTSUPP;
    return -1;
}
EXPORT int fallocate(int fd, int mode, off_t at, off_t length) { return fallocate64(fd, mode, at, length); }

/* -- made durable */

static int synced(int fd, int (*act)(int)) {
    if (!is_ours(fd)) return act(fd);
    char line[128];
    pthread_mutex_lock(&lock);
    int answer = refused_fd("fsync", fd) ? -1 : act(fd);
    int error = errno;
    struct stat found;
    if (!answer && !fstat(fd, &found)) {
        snprintf(line, sizeof line, "S %lu %lld %ld\n", (unsigned long)found.st_ino, (long long)found.st_mtim.tv_sec, found.st_mtim.tv_nsec);
        note(line, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return answer;
}
static int do_fsync(int fd) { REAL(int, "fsync", int); return real(fd); }
static int do_fdatasync(int fd) { REAL(int, "fdatasync", int); return real(fd); }
EXPORT int fsync(int fd) { return synced(fd, do_fsync); }
EXPORT int fdatasync(int fd) { return synced(fd, do_fdatasync); }
