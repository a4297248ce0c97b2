// SPDX-License-Identifier: MIT
#include "cli/bench_data.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/print.h"
#include "cli/cli.h"

#define LIBRARIES "/usr/lib"

enum { FILES_MAX = 256, FILE_PAGES_MIN = 16, PARTS = 16 };

struct file {
	char *path;
	u64 bytes;
	ino_t inode;
};

static struct file files[FILES_MAX]; /* the largest that were found, the largest first */
static int nr_files;

/* By size, then by name: the same files make the same data. */
static bool is_before(const struct file *a, u64 bytes, const char *path)
{
	return a->bytes > bytes || (a->bytes == bytes && strcmp(a->path, path) < 0);
}

static int see_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	u64 bytes = (u64)st->st_size;
	int at = nr_files;

	(void)ftw;
	if (type != FTW_F || !S_ISREG(st->st_mode) || bytes < FILE_PAGES_MIN * PAGE_SIZE || access(path, R_OK))
		return 0;
	for (int i = 0; i < nr_files; i++) {
		if (files[i].inode == st->st_ino)
			return 0;
	}
	while (at > 0 && !is_before(&files[at - 1], bytes, path))
		at--;
	if (at == FILES_MAX)
		return 0;
	if (nr_files == FILES_MAX)
		free(files[--nr_files].path);
	memmove(&files[at + 1], &files[at], (size_t)(nr_files - at) * sizeof(files[0]));
	files[at] = (struct file){ .path = strdup(path), .bytes = bytes, .inode = st->st_ino };
	nr_files++;
	return files[at].path ? 0 : -1;
}

/* Programs and libraries: archives are compressed already, and memory is not. */
static bool is_elf(int fd)
{
	char magic[4];

	return pread(fd, magic, sizeof(magic), 0) == sizeof(magic) && !memcmp(magic, "\177ELF", sizeof(magic));
}

/* Whole pages of a file, to the end of `to`. Returns how many bytes it were. */
static u64 append_file(int to, const struct file *file, u64 room)
{
	u64 want = ALIGN_DOWN(min_u64(file->bytes, room), PAGE_SIZE), got = 0;
	int from = open(file->path, O_RDONLY | O_CLOEXEC);
	ssize_t n = 1;

	while (from >= 0 && is_elf(from) && got < want && (n = sendfile(to, from, NULL, want - got)) > 0)
		got += (u64)n;
	if (from >= 0)
		close(from);
	return got;
}

static int copy_libraries(u64 bytes, char *what, size_t size)
{
	int fd = memfd_create("weir-bench-data", 0), used = 0;
	u64 total = 0, part = bytes / PARTS, got;
	char text[2][24];

	if (fd < 0)
		return cli_error(-1, "bench", "no memory for the data: %s", strerror(errno));
	nftw(LIBRARIES, see_file, 32, FTW_PHYS | FTW_MOUNT);
	for (int i = 0; i < nr_files && total < bytes; i++, total += got) {
		got = append_file(fd, &files[i], min_u64(part, bytes - total));
		used += got != 0;
	}
	if (total < PAGE_SIZE) {
		close(fd);
		return cli_error(-1, "bench", "there is no data below " LIBRARIES "; give a file with --data");
	}
	snprintf(what, size, "the %d largest programs and libraries below " LIBRARIES ", at most %s of each, %s in all",
		 used, print_size(text[0], sizeof(text[0]), part), print_size(text[1], sizeof(text[1]), total));
	return fd;
}

int bench_data_open(const char *path, u64 bytes, char *what, size_t size)
{
	struct stat st;
	char text[24];
	int fd;

	if (!path)
		return copy_libraries(bytes, what, size);
	fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &st))
		return cli_error(-1, "bench", "--data: %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)PAGE_SIZE) {
		close(fd);
		return cli_error(-1, "bench", "--data: %s is no file of a page or more", path);
	}
	snprintf(what, size, "%s, %s", path, print_size(text, sizeof(text), (u64)st.st_size));
	/* Its page cache is nobody's charge in the runs. */
	posix_fadvise(fd, 0, (off_t)min_u64((u64)st.st_size, bytes), POSIX_FADV_WILLNEED);
	return fd;
}
