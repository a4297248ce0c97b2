// SPDX-License-Identifier: MIT
#include "cli/command.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cli/cli.h"

enum {
	SCRIPT_LINE_MAX = 255, /* the kernel reads no more of a #! line */
	SCRIPT_DEPTH_MAX = 5, /* scripts whose interpreter is a script: the kernel's own limit */
};

static int printf_like(3, 4) command_error(struct command_error *err, int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	return status;
}

/* 0 or -errno. Directories and devices are -EACCES, as for execve(2). */
static int file_is_executable(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EACCES;
	return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

static int not_executable(const char *path, int rc, struct command_error *err)
{
	struct stat st;

	if (rc == -ENOENT || rc == -ENOTDIR)
		return command_error(err, CLI_RUN_NOT_FOUND, "%s: no such file", path);
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return command_error(err, CLI_RUN_CANNOT, "%s is a directory; give a program", path);
	if (rc == -EACCES)
		return command_error(err, CLI_RUN_CANNOT,
				     "%s is not executable; check its mode and the mount's noexec flag", path);
	return command_error(err, CLI_RUN_CANNOT, "%s: %s", path, strerror(-rc));
}

/*
 * Like execvp(3): an empty element is the current directory, and what may not be executed is passed over. Unlike it, a
 * directory that may not be searched is not taken for a file that may not be executed.
 */
static int find_in_path(const char *name, char *path, struct command_error *err)
{
	const char *dir = getenv("PATH");
	char denied[PATH_MAX] = "";
	size_t len;

	for (dir = dir ? dir : "/bin:/usr/bin"; dir; dir = dir[len] ? dir + len + 1 : NULL) {
		int n, rc;

		len = strcspn(dir, ":");
		n = snprintf(path, PATH_MAX, "%.*s%s%s", (int)len, dir, len ? "/" : "./", name);
		if (n >= PATH_MAX)
			continue;
		rc = file_is_executable(path);
		if (rc == 0)
			return 0;
		if (rc == -EACCES && !denied[0] && access(path, F_OK) == 0)
			memcpy(denied, path, (size_t)n + 1);
	}
	if (denied[0])
		return not_executable(denied, -EACCES, err);
	return command_error(err, CLI_RUN_NOT_FOUND, "%.200s: command not found; check its name and PATH", name);
}

int command_find(const char *name, char *path, struct command_error *err)
{
	int rc;

	if (!name[0])
		return command_error(err, CLI_RUN_NOT_FOUND, "the command's name is empty");
	if (!strchr(name, '/'))
		return find_in_path(name, path, err);
	if (snprintf(path, PATH_MAX, "%s", name) >= PATH_MAX)
		return command_error(err, CLI_RUN_NOT_FOUND, "the command's path is too long");
	rc = file_is_executable(path);
	return rc == 0 ? 0 : not_executable(path, rc, err);
}

#if defined(__x86_64__)
#define NATIVE_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define NATIVE_MACHINE EM_AARCH64
#else
#error "the machine is not supported"
#endif

static const char *machine_to_name(unsigned int machine)
{
	switch (machine) {
	case EM_X86_64:
		return "x86-64";
	case EM_386:
		return "32-bit x86";
	case EM_AARCH64:
		return "arm64";
	case EM_ARM:
		return "32-bit arm";
	case EM_RISCV:
		return "RISC-V";
	case EM_PPC64:
		return "POWER";
	case EM_S390:
		return "s390";
	default:
		return "another machine";
	}
}

static int examine_loader(const char *path, const char *loader, struct command_error *err)
{
	if (strstr(loader, "ld-musl"))
		return command_error(err, CLI_RUN_CANNOT, "%s uses the musl C library; weir run needs a glibc program",
				     path);
	if (access(loader, X_OK) < 0)
		return command_error(err, CLI_RUN_CANNOT,
				     "%s: its loader %s is missing; install the program's libraries", path, loader);
	return 0;
}

/* A program without PT_INTERP has no dynamic loader, so nobody would load the shim. */
static int examine_segments(int fd, const char *path, const Elf64_Ehdr *ehdr, struct command_error *err)
{
	for (unsigned int i = 0; i < ehdr->e_phnum; i++) {
		off_t at = (off_t)(ehdr->e_phoff + (u64)i * ehdr->e_phentsize);
		char loader[PATH_MAX] = "";
		Elf64_Phdr phdr;

		if (pread(fd, &phdr, sizeof(phdr), at) != sizeof(phdr))
			return command_error(err, CLI_RUN_CANNOT, "%s is cut short; copy or build it again", path);
		if (phdr.p_type != PT_INTERP)
			continue;
		if (pread(fd, loader, min_u64(phdr.p_filesz, sizeof(loader) - 1), (off_t)phdr.p_offset) < 0)
			return command_error(err, CLI_RUN_CANNOT, "%s is cut short; copy or build it again", path);
		return examine_loader(path, loader, err);
	}
	return command_error(err, CLI_RUN_CANNOT,
			     "%s is statically linked, so its memory cannot be managed; "
			     "link it dynamically",
			     path);
}

static int examine_elf(int fd, const char *path, struct command_error *err)
{
	Elf64_Ehdr ehdr;
	ssize_t n = pread(fd, &ehdr, sizeof(ehdr), 0);

	/* e_machine lies at the same offset in both classes. */
	if (n < (ssize_t)sizeof(Elf32_Ehdr))
		return command_error(err, CLI_RUN_CANNOT, "%s is cut short; copy or build it again", path);
	if (ehdr.e_machine != NATIVE_MACHINE)
		return command_error(err, CLI_RUN_CANNOT, "%s is built for %s; weir manages only %s programs here",
				     path, machine_to_name(ehdr.e_machine), machine_to_name(NATIVE_MACHINE));
	if (ehdr.e_ident[EI_CLASS] != ELFCLASS64)
		return command_error(err, CLI_RUN_CANNOT, "%s is a 32-bit program; weir manages only 64-bit programs",
				     path);
	if (n < (ssize_t)sizeof(ehdr) || (ehdr.e_type != ET_EXEC && ehdr.e_type != ET_DYN) ||
	    ehdr.e_phentsize != sizeof(Elf64_Phdr))
		return command_error(err, CLI_RUN_CANNOT, "%s is an ELF file, but not a program", path);
	return examine_segments(fd, path, &ehdr, err);
}

/*
 * The loader ignores LD_PRELOAD where exec gains privileges. It does not gain any under no_new_privs or nosuid, and
 * file capabilities give root nothing new.
 */
static int examine_privileges(int fd, const char *path, struct command_error *err)
{
	struct statvfs fs;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return command_error(err, CLI_RUN_CANNOT, "%s: %s", path, strerror(errno));
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 || (fstatvfs(fd, &fs) == 0 && (fs.f_flag & ST_NOSUID)))
		return 0;
	if ((st.st_mode & S_ISUID) && st.st_uid != getuid())
		return command_error(err, CLI_RUN_CANNOT,
				     "%s is setuid, so its memory cannot be managed; "
				     "run a copy without the bit, or weir as its owner",
				     path);
	if ((st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP) && st.st_gid != getgid())
		return command_error(err, CLI_RUN_CANNOT,
				     "%s is setgid, so its memory cannot be managed; "
				     "run a copy without the bit, or weir in its group",
				     path);
	if (getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0)
		return command_error(err, CLI_RUN_CANNOT,
				     "%s has file capabilities, so its memory cannot be managed; "
				     "run a copy without them",
				     path);
	return 0;
}

struct script_line {
	char text[SCRIPT_LINE_MAX + 1];
	char *interpreter;
	char *argument; /* NULL: none */
};

/* "#! INTERPRETER [ARGUMENT]". False if there is no interpreter. */
static bool script_parse(const char *head, size_t len, struct script_line *line)
{
	size_t end;

	memcpy(line->text, head, len);
	line->text[len] = '\0';
	line->text[strcspn(line->text, "\n")] = '\0';
	line->interpreter = line->text + 2 + strspn(line->text + 2, " \t");
	end = strcspn(line->interpreter, " \t");
	line->argument = NULL;
	if (line->interpreter[end]) {
		line->argument = line->interpreter + end + 1;
		line->argument += strspn(line->argument, " \t");
		line->argument[strcspn(line->argument, " \t")] = '\0';
		line->interpreter[end] = '\0';
		if (!line->argument[0])
			line->argument = NULL;
	}
	return line->interpreter[0] != '\0';
}

static int examine_depth(const char *path, int depth, struct command_error *err);

/* "#!/usr/bin/env python3": what runs in the end is python3. */
static int examine_env_argument(const char *path, const char *name, int depth, struct command_error *err)
{
	char target[PATH_MAX];
	struct command_error inner;

	if (command_find(name, target, &inner))
		return command_error(err, CLI_RUN_CANNOT, "%s: its interpreter %s was not found in PATH; install it",
				     path, name);
	return examine_depth(target, depth + 1, err);
}

static int examine_script(const char *path, const char *head, size_t len, int depth, struct command_error *err)
{
	struct script_line line;
	const char *base;
	int rc;

	if (depth >= SCRIPT_DEPTH_MAX)
		return command_error(err, CLI_RUN_CANNOT, "%s: too many scripts interpret each other", path);
	if (!script_parse(head, len, &line))
		return command_error(err, CLI_RUN_CANNOT, "%s: its #! line names no interpreter", path);
	rc = file_is_executable(line.interpreter);
	if (rc == -ENOENT || rc == -ENOTDIR)
		return command_error(err, CLI_RUN_CANNOT, "%s: its interpreter %s does not exist; correct the #! line",
				     path, line.interpreter);
	if (rc < 0)
		return command_error(err, CLI_RUN_CANNOT, "%s: its interpreter %s is not executable", path,
				     line.interpreter);
	base = strrchr(line.interpreter, '/');
	rc = examine_depth(line.interpreter, depth + 1, err);
	if (rc || !base || strcmp(base, "/env") || !line.argument || line.argument[0] == '-' ||
	    strchr(line.argument, '='))
		return rc;
	return examine_env_argument(path, line.argument, depth, err);
}

static int examine_depth(const char *path, int depth, struct command_error *err)
{
	char head[SCRIPT_LINE_MAX];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;
	int rc;

	if (fd < 0)
		return command_error(err, CLI_RUN_CANNOT,
				     "%s cannot be read (%s), so weir cannot tell whether it can be managed; "
				     "make it readable",
				     path, strerror(errno));
	n = pread(fd, head, sizeof(head), 0);
	if (n >= SELFMAG && !memcmp(head, ELFMAG, SELFMAG)) {
		rc = examine_elf(fd, path, err);
		if (!rc)
			rc = examine_privileges(fd, path, err);
	} else if (n >= 2 && head[0] == '#' && head[1] == '!') {
		rc = examine_script(path, head, (size_t)n, depth, err);
	} else if (n < 0 || memchr(head, '\0', (size_t)n)) {
		rc = command_error(err, CLI_RUN_CANNOT, "%s is neither an ELF program nor a script", path);
	} else {
		/* Plain text: execvp(3) hands it to the shell. */
		rc = examine_depth("/bin/sh", SCRIPT_DEPTH_MAX, err);
	}
	close(fd);
	return rc;
}

int command_examine(const char *path, struct command_error *err)
{
	return examine_depth(path, 0, err);
}
