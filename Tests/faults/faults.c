/* Makes one chosen call on the files of one folder go wrong, or ends the process right there. Loaded with LD_PRELOAD by tests, which count the calls of a
 * run and then have each of them fail in turn.
 *
 *   FAULT_FOLDER   calls on this folder and what is below it count: open, write, sync, truncate, rename, unlink
 *   FAULT_LOG      a line for every call: its number, what, on which file, and `*` when it was made to fail
 *   FAULT_AT       the number, from 1, of the call that goes wrong
 *   FAULT_CALL     in its place: the first call whose log line, without the number, fits this shell pattern, as "rename /journal.sqlite"
 *   FAULT_KIND     kill, after   SIGKILL before or after the call
 *                  torn          SIGKILL when half of a write is written
 *                  short         a write writes half and says so
 *                  eio, enospc   the call fails with this error and does nothing
 *   FAULT_UNTIL    with eio and enospc: every call from FAULT_AT on fails, until this file exists
 *   FAULT_DURABLE  a folder that is kept as a power cut would leave FAULT_FOLDER: a file holds what was written before its last successful sync. A write
 *                  whose sync failed is lost even if a later sync succeeds, as Linux does it: the pages count as clean after the error.
 *                  Names are durable at once; what was written under them is not.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { paths = 64, path_bytes = 1024, ranges = 4096 };

struct file {
  char path[path_bytes];
  int whole;                               /* everything may be unsynced: the file was there before this process */
  int count;
  struct { off_t at; size_t bytes; } written[ranges]; /* since the last sync */
};

static struct file files[paths];
static int file_count;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const char *folder, *durable, *kind, *until, *pattern;
static int log_file = -1;
static long at, number;

static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off_t);
static int (*real_renameat)(int, const char *, int, const char *);
static int (*real_unlinkat)(int, const char *, int);

static void *next(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (!found) abort();
  return found;
}

__attribute__((constructor)) static void set_up(void) {
  real_open = next("open");
  real_openat = next("openat");
  real_write = next("write");
  real_pwrite = next("pwrite64");
  real_fsync = next("fsync");
  real_fdatasync = next("fdatasync");
  real_ftruncate = next("ftruncate64");
  real_renameat = next("renameat");
  real_unlinkat = next("unlinkat");
  const char *log = getenv("FAULT_LOG"), *text = getenv("FAULT_AT");
  kind = getenv("FAULT_KIND");
  until = getenv("FAULT_UNTIL");
  pattern = getenv("FAULT_CALL");
  durable = getenv("FAULT_DURABLE");
  at = text ? atol(text) : 0;
  if (log) log_file = real_open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  folder = getenv("FAULT_FOLDER");
}

/* ---- Which file ---- */

static int counts(const char *path) {
  size_t n = folder ? strlen(folder) : 0;
  return n && !strncmp(path, folder, n) && (path[n] == 0 || path[n] == '/');
}

static int path_of(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = folder ? readlink(link, path, path_bytes - 1) : -1;
  if (n < 0) return 0;
  path[n] = 0;
  return counts(path);
}

static int path_at(int directory, const char *name, char *path) {
  if (!folder) return 0;
  if (name[0] == '/' || directory == AT_FDCWD) {
    snprintf(path, path_bytes, "%s", name);
  } else {
    char base[path_bytes];
    if (!path_of(directory, base)) return 0;
    snprintf(path, path_bytes, "%.500s/%.500s", base, name);
  }
  return counts(path);
}

static struct file *known(const char *path) {
  for (int i = 0; i < file_count; i++)
    if (!strcmp(files[i].path, path)) return &files[i];
  if (file_count == paths) abort();
  struct file *file = &files[file_count++];
  memset(file, 0, offsetof(struct file, written));
  snprintf(file->path, sizeof file->path, "%s", path);
  file->whole = 1;
  return file;
}

/* ---- What a power cut leaves ---- */

static void durable_path(const char *path, char *out) {
  snprintf(out, path_bytes, "%.500s%.500s", durable, path + strlen(folder));
  char *slash = strrchr(out, '/');
  if (slash) {
    *slash = 0;
    mkdir(out, 0700);
    *slash = '/';
  }
}

static int make_durable(const char *path, int flags) {
  char out[path_bytes];
  durable_path(path, out);
  return real_open(out, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);
}

static void created(const char *path) {
  if (!durable) return;
  struct file *file = known(path);
  file->whole = 0;
  file->count = 0;
  close(make_durable(path, O_TRUNC));
}

static void wrote(const char *path, off_t from, ssize_t bytes) {
  if (!durable || bytes <= 0) return;
  struct file *file = known(path);
  if (file->count == ranges) {
    file->whole = 1;
    return;
  }
  file->written[file->count].at = from;
  file->written[file->count++].bytes = (size_t)bytes;
}

static void copy(int in, int out, off_t from, size_t bytes) {
  char buffer[65536];
  while (bytes) {
    ssize_t n = pread(in, buffer, bytes < sizeof buffer ? bytes : sizeof buffer, from);
    if (n <= 0) return;
    if (real_pwrite(out, buffer, (size_t)n, from) != n) abort();
    from += n;
    bytes -= (size_t)n;
  }
}

static void synced(const char *path) {
  struct stat status;
  if (!durable || stat(path, &status) || !S_ISREG(status.st_mode)) return;
  struct file *file = known(path);
  int in = real_open(path, O_RDONLY | O_CLOEXEC), out = make_durable(path, 0);
  if (file->whole) copy(in, out, 0, (size_t)status.st_size);
  for (int i = 0; i < file->count; i++) copy(in, out, file->written[i].at, file->written[i].bytes);
  if (real_ftruncate(out, status.st_size)) abort();
  close(in);
  close(out);
  file->whole = 0;
  file->count = 0;
}

static void sync_failed(const char *path) {
  if (!durable) return;
  struct file *file = known(path);
  file->whole = 0;
  file->count = 0;
}

static void renamed(const char *from, const char *to) {
  if (!durable) return;
  struct file *old = known(from), *new = known(to);
  char path[path_bytes], a[path_bytes], b[path_bytes];
  snprintf(path, sizeof path, "%s", new->path);
  memcpy(new, old, sizeof *new);
  memcpy(new->path, path, sizeof path);
  old->count = 0;
  durable_path(from, a);
  durable_path(to, b);
  if (real_renameat(AT_FDCWD, a, AT_FDCWD, b)) close(make_durable(to, O_TRUNC));
}

static void removed(const char *path) {
  if (!durable) return;
  char out[path_bytes];
  durable_path(path, out);
  real_unlinkat(AT_FDCWD, out, 0);
  known(path)->count = 0;
}

/* ---- What goes wrong ---- */

/* Counts a call. Returns 0, or the error that it must fail with; -1: half of it, -2: half of it and the end, -3: the end behind it. */
static int fate(const char *call, const char *path) {
  number++;
  if (pattern && !at) {
    char text[path_bytes + 16];
    snprintf(text, sizeof text, "%s %s", call, path + strlen(folder));
    if (!fnmatch(pattern, text, 0)) at = number;
  }
  int hit = at && (number == at || (until && number > at && access(until, F_OK)));
  if (log_file >= 0) {
    char line[path_bytes + 64];
    int n = snprintf(line, sizeof line, "%ld %s %s%s\n", number, call, path + strlen(folder), hit ? " *" : "");
    if (real_write(log_file, line, (size_t)n) != n) abort();
  }
  if (!hit || !kind) return 0;
  if (!strcmp(kind, "kill")) raise(SIGKILL);
  if (!strcmp(kind, "eio")) return EIO;
  if (!strcmp(kind, "enospc")) return ENOSPC;
  return !strcmp(kind, "short") ? -1 : !strcmp(kind, "torn") ? -2 : -3;
}

static void end_if(int fate) {
  if (fate < -1) raise(SIGKILL);
}

/* ---- The calls ---- */

static ssize_t write_somehow(int fd, const void *bytes, size_t count, off_t offset, int has_offset) {
  char path[path_bytes];
  if (!path_of(fd, path)) return has_offset ? real_pwrite(fd, bytes, count, offset) : real_write(fd, bytes, count);
  pthread_mutex_lock(&mutex);
  int f = fate("write", path);
  ssize_t n = -1;
  if (f <= 0) {
    size_t part = (f == -1 || f == -2) && count > 1 ? count / 2 : count;
    if (!has_offset) offset = lseek(fd, 0, SEEK_CUR);
    n = has_offset ? real_pwrite(fd, bytes, part, offset) : real_write(fd, bytes, part);
    wrote(path, offset, n);
    end_if(f);
  } else {
    errno = f;
  }
  pthread_mutex_unlock(&mutex);
  return n;
}

ssize_t write(int fd, const void *bytes, size_t count) { return write_somehow(fd, bytes, count, 0, 0); }
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) { return write_somehow(fd, bytes, count, offset, 1); }
ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t offset) { return write_somehow(fd, bytes, count, offset, 1); }

static int sync_somehow(int fd, int (*real)(int)) {
  char path[path_bytes];
  if (!path_of(fd, path)) return real(fd);
  pthread_mutex_lock(&mutex);
  int f = fate("sync", path), result = -1;
  if (f <= 0) {
    /* Not the disk's time but what would be on it is what counts here. */
    result = 0;
    synced(path);
    end_if(f);
  } else {
    sync_failed(path);
    errno = f;
  }
  pthread_mutex_unlock(&mutex);
  return result;
}

int fsync(int fd) { return sync_somehow(fd, real_fsync); }
int fdatasync(int fd) { return sync_somehow(fd, real_fdatasync); }

int ftruncate64(int fd, off_t length) {
  char path[path_bytes];
  if (!path_of(fd, path)) return real_ftruncate(fd, length);
  pthread_mutex_lock(&mutex);
  int f = fate("truncate", path), result = -1;
  if (f <= 0) {
    result = real_ftruncate(fd, length);
    end_if(f);
  } else {
    errno = f;
  }
  pthread_mutex_unlock(&mutex);
  return result;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int open_somehow(int directory, const char *name, int flags, int mode) {
  char path[path_bytes];
  if (!path_at(directory, name, path)) return real_openat(directory, name, flags, mode);
  pthread_mutex_lock(&mutex);
  int f = fate("open", path), fd = -1;
  if (f <= 0) {
    int is_new = (flags & O_CREAT) && access(path, F_OK);
    fd = real_openat(directory, name, flags, mode);
    if (fd >= 0 && is_new) created(path);
    end_if(f);
  } else {
    errno = f;
  }
  pthread_mutex_unlock(&mutex);
  return fd;
}

static int mode_of(int flags, va_list list) { return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(list, int) : 0; }

#define OPEN(directory, name) \
  va_list list;               \
  va_start(list, flags);      \
  int mode = mode_of(flags, list); \
  va_end(list);               \
  return open_somehow(directory, name, flags, mode)

int open(const char *name, int flags, ...) { OPEN(AT_FDCWD, name); }
int open64(const char *name, int flags, ...) { OPEN(AT_FDCWD, name); }
int openat(int directory, const char *name, int flags, ...) { OPEN(directory, name); }
int openat64(int directory, const char *name, int flags, ...) { OPEN(directory, name); }

int renameat(int a, const char *from, int b, const char *to) {
  char old[path_bytes], new[path_bytes];
  if (!path_at(a, from, old) || !path_at(b, to, new)) return real_renameat(a, from, b, to);
  pthread_mutex_lock(&mutex);
  int f = fate("rename", new), result = -1;
  if (f <= 0) {
    result = real_renameat(a, from, b, to);
    if (!result) renamed(old, new);
    end_if(f);
  } else {
    errno = f;
  }
  pthread_mutex_unlock(&mutex);
  return result;
}

int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int unlinkat(int directory, const char *name, int flags) {
  char path[path_bytes];
  if (!path_at(directory, name, path)) return real_unlinkat(directory, name, flags);
  pthread_mutex_lock(&mutex);
  int f = fate("unlink", path), result = -1;
  if (f <= 0) {
    result = real_unlinkat(directory, name, flags);
    if (!result) removed(path);
    end_if(f);
  } else {
    errno = f;
  }
  pthread_mutex_unlock(&mutex);
  return result;
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
