// SPDX-License-Identifier: MIT
#include "swap/file_backing.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/assert.h"
#include "base/os.h"
#include "base/print.h"
#include "base/syscall.h"

#define SIZE_DEFAULT ((u64)64 << 30)
#define ROOM_MIN ((u64)16 << 20) /* on the disk, to begin with */

enum {
	KERNEL_LABEL_AT = 4086, /* mkswap's, in the first page */
	STATX_BYTES = 256,
	STATX_MASK_AT = 0,
	STATX_DIO_MEMORY_AT = 0x98,
	STATX_DIO_OFFSET_AT = 0x9c,
	STATX_DIO = 0x2000, /* 6.1 */
	RLIMIT_OF_FILES = 1, /* RLIMIT_FSIZE */
};

static const char kernel_label[] = "SWAPSPACE2", own_label[] = "weir swap space\n";

struct opening {
	const struct swap_device_config *cfg;
	struct file_backing *b;
	struct stat st;
	bool is_ours; /* made by us, or as good as: it has no data */
	char *err;
	size_t err_size;
};

static int refuse(const struct opening *o, int err, const char *why)
{
	print_to(o->err, o->err_size, "file: %s %s", o->cfg->target, why);
	return err;
}

static int refuse_error(const struct opening *o, long err)
{
	char text[64];

	switch (err) {
	case -ENOENT:
	case -ENOTDIR:
		return refuse(o, (int)err, "is not there, nor a directory that it could be in");
	case -EACCES:
	case -EPERM:
		return refuse(o, (int)err, "cannot be opened for reading and writing: no permission");
	case -EROFS:
		return refuse(o, (int)err, "is on a file system that is read-only");
	case -EBUSY:
	case -ETXTBSY:
	case -EAGAIN:
		return refuse(o, (int)err, "is in use: mounted, or swap space of somebody else");
	case -EOPNOTSUPP:
		return refuse(o, (int)err, "is on a file system without unnamed files (O_TMPFILE); name a file there");
	case -ENOSPC:
	case -EDQUOT:
		return refuse(o, (int)err, "is on a disk that is full; say another path, or a smaller size=");
	case -EFBIG:
		return refuse(o, (int)err, "cannot be that large; say a smaller size=, or raise ulimit -f");
	default:
		print_to(text, sizeof(text), "cannot be used (error %d)", (int)-err);
		return refuse(o, (int)err, text);
	}
}

/* ---- opening ---- */

static long open_unnamed(const struct opening *o)
{
	char path[SWAP_TEXT_SIZE];
	char *slash;
	long fd;

	strcpy(path, o->cfg->target);
	fd = sys4(SYS_openat, AT_FDCWD, path, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
	if (fd != -ENOENT)
		return fd;
	slash = strrchr(path, '/');
	if (!slash)
		strcpy(path, ".");
	else
		slash[slash == path] = '\0';
	return sys4(SYS_openat, AT_FDCWD, path, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
}

/* The lock goes with the last copy of the descriptor, so a killed run leaves none. */
static long open_file(const struct opening *o)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	long fd = sys4(SYS_openat, AT_FDCWD, o->cfg->target, O_RDWR | O_CLOEXEC, 0), ret;

	if (fd < 0)
		return fd;
	ret = sys3(SYS_fcntl, fd, F_OFD_SETLK, &lock);
	if (!ret)
		return fd;
	sys1(SYS_close, fd);
	return ret == -EACCES ? -EBUSY : ret;
}

static int open_target(struct opening *o)
{
	long fd = sys4(SYS_newfstatat, AT_FDCWD, o->cfg->target, &o->st, 0);

	if (fd == -ENOENT || (!fd && S_ISDIR(o->st.st_mode))) {
		o->is_ours = true;
		fd = open_unnamed(o);
	} else if (!fd && S_ISREG(o->st.st_mode)) {
		fd = open_file(o);
	} else if (!fd && S_ISBLK(o->st.st_mode)) {
		fd = sys4(SYS_openat, AT_FDCWD, o->cfg->target, O_RDWR | O_EXCL | O_CLOEXEC, 0);
	} else if (!fd) {
		return refuse(o, -EINVAL, "is neither a directory nor a file nor a block device");
	}
	if (fd >= 0) {
		o->b->fd = (int)fd;
		fd = sys4(SYS_newfstatat, fd, "", &o->st, AT_EMPTY_PATH);
	}
	return fd ? refuse_error(o, fd) : 0;
}

/* ---- what is there ---- */

static u64 target_bytes(const struct opening *o)
{
	u64 bytes = (u64)o->st.st_size;

	if (S_ISBLK(o->st.st_mode) && sys3(SYS_ioctl, o->b->fd, BLKGETSIZE64, &bytes))
		return 0;
	return bytes;
}

/* -EEXIST: data of somebody. Otherwise 0, and what has no label gets one. */
static int check_label(struct opening *o)
{
	char page[PAGE_SIZE];
	long got;

	if (S_ISREG(o->st.st_mode) && sys3(SYS_lseek, o->b->fd, 0, SEEK_DATA) == -ENXIO)
		o->is_ours = true;
	memset(page, 0, sizeof(page));
	got = sys4(SYS_pread64, o->b->fd, page, sizeof(page), 0);
	if (got < 0)
		return (int)got;
	if (!memcmp(page + KERNEL_LABEL_AT, kernel_label, strlen(kernel_label)) ||
	    !memcmp(page, own_label, strlen(own_label)))
		return 0;
	if (!o->is_ours && !o->cfg->force)
		return -EEXIST;
	memset(page, 0, sizeof(page));
	memcpy(page, own_label, strlen(own_label));
	got = sys4(SYS_pwrite64, o->b->fd, page, sizeof(page), 0);
	return got == (long)sizeof(page) ? 0 : got < 0 ? (int)got : -ENOSPC;
}

/* ---- size ---- */

/*
 * Enough to begin with: a disk that is full would be found out in the middle of the program. What is to be taken at
 * once must be there: fallocate would take all there is, and everybody else's writes would fail, before it gives up.
 */
static int check_room(const struct opening *o, u64 bytes)
{
	char text[96], free[16];
	struct statfs fs;
	u64 room;

	if (sys2(SYS_fstatfs, o->b->fd, &fs))
		return 0;
	room = (u64)fs.f_bavail * (u64)fs.f_bsize;
	/* No blocks at all: a file system that does not count. */
	if (!fs.f_blocks || room >= (o->cfg->prealloc ? bytes : min_u64(bytes, ROOM_MIN)))
		return 0;
	print_to(text, sizeof(text), "is on a disk that is full (%s free); say another path",
		 print_size(free, sizeof(free), ALIGN_DOWN(room, PAGE_SIZE)));
	return refuse(o, -ENOSPC, text);
}

static int set_size(struct opening *o, u64 bytes)
{
	u64 limit[2] = { 0 };
	long ret;

	if (!sys4(SYS_prlimit64, 0, RLIMIT_OF_FILES, NULL, limit) && bytes > limit[0])
		return refuse_error(o, -EFBIG);
	ret = check_room(o, bytes);
	if (ret)
		return (int)ret;
	ret = sys2(SYS_ftruncate, o->b->fd, bytes);
	if (!ret && o->cfg->prealloc)
		ret = sys4(SYS_fallocate, o->b->fd, 0, 0, bytes);
	return ret ? refuse_error(o, ret) : 0;
}

static int size_target(struct opening *o)
{
	bool said = o->cfg->size < SWAP_SIZE_ALL;
	u64 pages = o->cfg->size >> PAGE_SHIFT, there = target_bytes(o) >> PAGE_SHIFT;
	char text[96], size[16];

	if (said && o->cfg->size % PAGE_SIZE)
		return refuse(o, -EINVAL, "would not be whole pages; say a size= that is a multiple of 4K");
	if (o->is_ours && !there) {
		pages = said ? pages : SIZE_DEFAULT >> PAGE_SHIFT;
		o->b->nr_pages = (u32)pages + 1;
		return set_size(o, pages_to_bytes(pages + 1));
	}
	if (there < 2)
		return refuse(o, -EINVAL, "is too small: a label and a page are the least");
	if (!said)
		pages = min_u64(there - 1, SWAP_BYTES_MAX >> PAGE_SHIFT);
	if (pages > there - 1) {
		print_to(text, sizeof(text), "has room for %s; say a size= that is not more",
			 print_size(size, sizeof(size), pages_to_bytes(there - 1)));
		return refuse(o, -EINVAL, text);
	}
	o->b->nr_pages = (u32)pages + 1;
	return o->is_ours ? set_size(o, pages_to_bytes(there)) : 0;
}

/* ---- direct ---- */

static bool can_read(const struct file_backing *b)
{
	_Alignas(PAGE_SIZE) char page[PAGE_SIZE];

	return sys4(SYS_pread64, b->fd, page, sizeof(page), 0) >= 0;
}

/* Past the page cache, where pages of ours can be transferred as they are. */
static void go_direct(struct file_backing *b)
{
	long flags = sys2(SYS_fcntl, b->fd, F_GETFL);
	u32 statx[STATX_BYTES / sizeof(u32)] = { 0 }, offset = PAGE_SIZE, memory = PAGE_SIZE;

	if (flags < 0 || sys3(SYS_fcntl, b->fd, F_SETFL, flags | O_DIRECT))
		return;
	if (!sys5(SYS_statx, b->fd, "", AT_EMPTY_PATH, STATX_DIO, statx) && statx[STATX_MASK_AT] & STATX_DIO) {
		memory = statx[STATX_DIO_MEMORY_AT / sizeof(u32)];
		offset = statx[STATX_DIO_OFFSET_AT / sizeof(u32)];
	}
	b->direct = offset && offset <= PAGE_SIZE && memory && memory <= PAGE_SIZE && can_read(b);
	if (b->direct)
		b->memory_align = memory;
	else
		sys3(SYS_fcntl, b->fd, F_SETFL, flags);
}

/* ---- all of it ---- */

static void finish(struct opening *o)
{
	struct file_backing *b = o->b;

	b->dev = o->st.st_dev;
	b->ino = o->st.st_ino;
	b->memory_align = 1;
	if (o->cfg->direct)
		go_direct(b);
	b->fd = os_fd_raise(b->fd);
}

int file_backing_open(const struct swap_device_config *cfg, struct file_backing *b, char *err, size_t err_size)
{
	struct opening o = { .cfg = cfg, .b = b, .err = err, .err_size = err_size };
	int ret;

	*b = (struct file_backing){ .fd = -1 };
	ret = open_target(&o);
	if (!ret) {
		ret = o.is_ours ? 0 : check_label(&o);
		if (ret == -EEXIST)
			refuse(&o, ret, "has data that is not swap space; to overwrite it say force=on");
		else if (ret)
			refuse_error(&o, ret);
	}
	if (!ret)
		ret = size_target(&o);
	if (ret) {
		if (b->fd >= 0)
			sys1(SYS_close, b->fd);
		b->fd = -1;
		return ret;
	}
	/* What somebody has laid out in advance stays laid out. */
	b->punch = o.is_ours && !cfg->prealloc;
	finish(&o);
	return 0;
}

int file_backing_join(const struct swap_device_config *cfg, struct file_backing *b)
{
	struct opening o = { .cfg = cfg, .b = b };
	long ret = sys4(SYS_openat, AT_FDCWD, cfg->target, O_RDWR | O_CLOEXEC, 0);

	if (ret < 0)
		return (int)ret;
	*b = (struct file_backing){
		.fd = (int)ret,
		.nr_pages = (u32)(cfg->size >> PAGE_SHIFT) + 1,
		.punch = !cfg->prealloc,
	};
	ret = sys4(SYS_newfstatat, b->fd, "", &o.st, AT_EMPTY_PATH);
	if (ret) {
		sys1(SYS_close, b->fd);
		return (int)ret;
	}
	finish(&o);
	return 0;
}

bool file_backing_is_open(const struct file_backing *b)
{
	struct stat st;

	return !sys4(SYS_newfstatat, b->fd, "", &st, AT_EMPTY_PATH) && st.st_dev == b->dev && st.st_ino == b->ino;
}
