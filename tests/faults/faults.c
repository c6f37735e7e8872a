/* Makes the N-th call that changes files below one folder fail: a full disk, a quota, a broken disk.

   Load it with LD_PRELOAD, then call faults_arm. Counted are, for files below the folder: making a file or folder,
   write, pwrite, writev, ftruncate, fsync, fdatasync, rename, and close of a file that is open for writing. The C
   library's own fwrite, fflush and fclose are counted as one call each. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode {
    CALL,   /* the N-th call fails, whichever it is */
    SHORT,  /* the N-th write takes half of the bytes, and the next write to the same file fails */
    FULL,   /* the N-th write and all later ones fail, as on a disk that stays full */
};

static char folder[PATH_MAX];
static size_t folder_length; /* 0: not armed */
static long fail_at, num_calls;
static int error_number, mode, short_descriptor = -1;
static char hit[PATH_MAX + 32];

void faults_arm(const char *path, long n, int error, int how) {
    strncpy(folder, path, sizeof folder - 1);
    fail_at = n, error_number = error, mode = how, num_calls = 0, short_descriptor = -1, hit[0] = 0;
    folder_length = strlen(folder);
}

void faults_disarm(void) { folder_length = 0; }

/* How many calls were counted, and "NAME PATH" of the first one that failed; "" if none did. */
long faults_count(void) { return num_calls; }
const char *faults_hit(void) { return hit; }

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int is_below(const char *path) {
    return folder_length && !strncmp(path, folder, folder_length) && (path[folder_length] == '/' || !path[folder_length]);
}

/* Finds the path of an open file; whether it is below the folder. */
static int path_of(int descriptor, char *path) {
    char link[64];
    if (!folder_length) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path);
}

static int is_absent(const char *path) { return is_below(path) && faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) != 0; }

/* Counts a call; whether it fails. */
static int fails(const char *name, const char *path, int is_write) {
    if (mode != CALL && !is_write) return 0;
    long number = __atomic_add_fetch(&num_calls, 1, __ATOMIC_SEQ_CST);
    if (number != fail_at && !(mode == FULL && number > fail_at && fail_at > 0)) return 0;
    if (!hit[0]) snprintf(hit, sizeof hit, "%s %s", name, path);
    errno = error_number;
    return 1;
}

/* Returns -1 for a write that goes on unharmed, -2 for one that fails, or how many bytes of a short write to take. */
static ssize_t harm(const char *name, int descriptor, size_t size) {
    char path[PATH_MAX];
    if (!path_of(descriptor, path)) return -1;
    if (mode == SHORT && descriptor == short_descriptor) {
        short_descriptor = -1;
        errno = error_number;
        return -2;
    }
    if (!fails(name, path, 1)) return -1;
    if (mode != SHORT || size < 2) return -2;
    short_descriptor = descriptor;
    return size / 2;
}

#define WRITE(name, parameters, size, whole, part) \
    ssize_t name parameters { \
        REAL(name); \
        ssize_t taken = harm(#name, fd, size); \
        return taken == -2 ? -1 : taken == -1 ? whole : part; \
    }

WRITE(write, (int fd, const void *data, size_t size), size, real(fd, data, size), real(fd, data, taken))
WRITE(pwrite, (int fd, const void *data, size_t size, off_t at), size, real(fd, data, size, at), real(fd, data, taken, at))
WRITE(pwrite64, (int fd, const void *data, size_t size, off64_t at), size, real(fd, data, size, at), real(fd, data, taken, at))
WRITE(writev, (int fd, const struct iovec *parts, int n), parts[0].iov_len, real(fd, parts, n), write(fd, parts[0].iov_base, taken))

size_t fwrite(const void *data, size_t size, size_t n, FILE *file) {
    REAL(fwrite);
    return harm("fwrite", fileno(file), 1) == -1 ? real(data, size, n, file) : 0;
}

#define DESCRIPTOR(name, parameters, is_write, whole) \
    int name parameters { \
        REAL(name); \
        char path[PATH_MAX]; \
        return path_of(fd, path) && fails(#name, path, is_write) ? -1 : whole; \
    }

DESCRIPTOR(fsync, (int fd), 0, real(fd))
DESCRIPTOR(fdatasync, (int fd), 0, real(fd))
DESCRIPTOR(ftruncate, (int fd, off_t size), 1, real(fd, size))
DESCRIPTOR(ftruncate64, (int fd, off64_t size), 1, real(fd, size))

/* A file is closed even if close reports that its bytes were lost. */
int close(int fd) {
    REAL(close);
    char path[PATH_MAX];
    int is_output = folder_length && (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY && path_of(fd, path);
    int result = real(fd);
    return is_output && fails("close", path, 0) ? -1 : result;
}

#define STREAM(name) \
    int name(FILE *file) { \
        REAL(name); \
        char path[PATH_MAX]; \
        int is_ours = file && path_of(fileno(file), path); \
        int result = real(file); \
        return is_ours && fails(#name, path, 0) ? EOF : result; \
    }

STREAM(fflush)
STREAM(fclose)

int rename(const char *from, const char *to) {
    REAL(rename);
    return is_below(to) && fails("rename", to, 0) ? -1 : real(from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    REAL(renameat);
    return is_below(to) && fails("renameat", to, 0) ? -1 : real(from_folder, from, to_folder, to);
}

int link(const char *from, const char *to) {
    REAL(link);
    return is_below(to) && fails("link", to, 0) ? -1 : real(from, to);
}

int mkdir(const char *path, mode_t permissions) {
    REAL(mkdir);
    return is_absent(path) && fails("mkdir", path, 0) ? -1 : real(path, permissions);
}

#define OPEN(name, first, path_argument, ...) \
    int name(first int flags, ...) { \
        REAL(name); \
        mode_t permissions = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { \
            va_list rest; \
            va_start(rest, flags); \
            permissions = va_arg(rest, mode_t); \
            va_end(rest); \
        } \
        int makes = (flags & O_TMPFILE) == O_TMPFILE ? is_below(path_argument) \
                                                     : (flags & O_CREAT) && is_absent(path_argument); \
        return makes && fails(#name, path_argument, 0) ? -1 : real(__VA_ARGS__, flags, permissions); \
    }

#define COMMA ,
OPEN(open, const char *path COMMA, path, path)
OPEN(open64, const char *path COMMA, path, path)
OPEN(openat, int at COMMA const char *path COMMA, path, at, path)
OPEN(openat64, int at COMMA const char *path COMMA, path, at, path)
