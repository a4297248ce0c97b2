// SPDX-License-Identifier: MIT
#include "cli/undo.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "cli/cli.h"

#define JOURNAL "/run/weir-bench.journal"

enum { NOTES_MAX = 16, TRIES = 100, TRY_US = 50000 };

struct note {
	int kind; /* enum undo_kind */
	char path[256], text[64];
};

struct journal {
	char boot[64]; /* a journal of another boot tells of nothing that is there */
	int nr;
	struct note note[NOTES_MAX];
};

static struct journal journal;
static int journal_fd = -1;
static int janitor_pipe = -1; /* never written to: its end of file is the word to begin */
static pid_t janitor;

int file_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

const char *file_line(const char *path, char *buf, size_t size)
{
	if (os_read_file(path, buf, size) < 0)
		buf[0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return buf;
}

/* ---- undoing ---- */

/* -EBUSY of what was in use a moment ago passes. */
static int retry(int (*fn)(const char *what), const char *what)
{
	int ret = fn(what);

	for (int i = 0; i < TRIES && ret == -EBUSY; i++) {
		usleep(TRY_US);
		ret = fn(what);
	}
	return ret;
}

static int remove_cgroup(const char *path)
{
	char procs[PATH_MAX];
	FILE *f;
	int pid;

	snprintf(procs, sizeof(procs), "%s/cgroup.procs", path);
	f = fopen(procs, "re");
	while (f && fscanf(f, "%d", &pid) == 1) {
		if (pid > 0)
			kill(pid, SIGKILL);
	}
	if (f)
		fclose(f);
	return rmdir(path) && errno != ENOENT ? -errno : 0;
}

static int remove_zram(const char *number)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/sys/block/zram%s", number);
	if (stat(path, &st))
		return 0;
	snprintf(path, sizeof(path), "/dev/zram%s", number);
	if (swapoff(path) && errno != EINVAL && errno != ENOENT)
		return -errno;
	return file_write("/sys/class/zram-control/hot_remove", number);
}

static int undo_one(const struct note *note)
{
	switch ((enum undo_kind)note->kind) {
	case UNDO_WRITE:
		return file_write(note->path, note->text);
	case UNDO_CGROUP:
		return retry(remove_cgroup, note->path);
	case UNDO_ZRAM:
		return retry(remove_zram, note->text);
	}
	return -EINVAL;
}

static int write_journal(void)
{
	ssize_t n = pwrite(journal_fd, &journal, sizeof(journal), 0);

	return n == sizeof(journal) ? 0 : n < 0 ? -errno : -ENOSPC;
}

static void read_journal(void)
{
	char boot[sizeof(journal.boot)];

	file_line("/proc/sys/kernel/random/boot_id", boot, sizeof(boot));
	if (pread(journal_fd, &journal, sizeof(journal), 0) != sizeof(journal) || strcmp(journal.boot, boot) ||
	    journal.nr < 0 || journal.nr > NOTES_MAX) {
		journal = (struct journal){ 0 };
		memcpy(journal.boot, boot, sizeof(boot));
	}
}

/* Each on its own: the next may be undone though one could not. */
static int undo_all(void)
{
	int failed = 0;

	read_journal();
	while (journal.nr) {
		const struct note *note = &journal.note[journal.nr - 1];
		int ret = undo_one(note);

		if (ret) {
			failed = -EIO;
			cli_error(0, "bench", "could not be put back: %s %s: %s", note->path, note->text,
				  strerror(-ret));
		}
		journal.nr--;
		if (write_journal())
			failed = -EIO;
	}
	unlink(JOURNAL);
	return failed;
}

/* ---- the journal ---- */

/* Locked, and still the file of that name: whoever had it before has removed it at the end. */
static int lock_journal(void)
{
	struct stat mine, named;

	for (;;) {
		journal_fd = open(JOURNAL, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (journal_fd < 0)
			return -errno;
		if (flock(journal_fd, LOCK_EX | LOCK_NB)) {
			close(journal_fd);
			return -EBUSY;
		}
		if (fstat(journal_fd, &mine) == 0 && stat(JOURNAL, &named) == 0 && mine.st_ino == named.st_ino)
			return 0;
		close(journal_fd);
	}
}

static _Noreturn void janitor_main(int fd)
{
	char byte;

	/* Not of the terminal's group: what ends the others must not end it. */
	setsid();
	for (int sig = 1; sig < 32; sig++)
		signal(sig, SIG_IGN);
	while (read(fd, &byte, 1) < 0 && errno == EINTR)
		;
	_exit(undo_all() ? 1 : 0);
}

static int start_janitor(void)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	fflush(NULL);
	janitor = fork();
	if (janitor == 0) {
		close(fds[1]);
		janitor_main(fds[0]);
	}
	close(fds[0]);
	if (janitor < 0) {
		close(fds[1]);
		return -EAGAIN;
	}
	janitor_pipe = fds[1];
	return 0;
}

int undo_open(bool *found)
{
	int ret = lock_journal();

	*found = false;
	if (ret)
		return ret;
	read_journal();
	if (journal.nr) {
		*found = true;
		ret = undo_all();
		close(journal_fd);
		if (!ret)
			ret = lock_journal();
		if (ret)
			return ret;
		read_journal();
	}
	ret = write_journal();
	if (!ret)
		ret = start_janitor();
	if (ret) {
		unlink(JOURNAL);
		close(journal_fd);
	}
	return ret;
}

int undo_note(enum undo_kind kind, const char *path, const char *text)
{
	struct note *note = &journal.note[journal.nr];

	if (journal.nr == NOTES_MAX || strlen(path) >= sizeof(note->path) || strlen(text) >= sizeof(note->text))
		return -ENAMETOOLONG;
	note->kind = (int)kind;
	snprintf(note->path, sizeof(note->path), "%s", path);
	snprintf(note->text, sizeof(note->text), "%s", text);
	journal.nr++;
	return write_journal();
}

int undo_close(void)
{
	int status, ret;

	close(janitor_pipe);
	while ((ret = waitpid(janitor, &status, 0)) < 0 && errno == EINTR)
		;
	/* A janitor that was killed has left the journal. */
	if (ret < 0 || !WIFEXITED(status))
		ret = undo_all();
	else
		ret = WEXITSTATUS(status) ? -EIO : 0;
	close(journal_fd);
	return ret;
}
