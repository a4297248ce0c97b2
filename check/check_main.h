/* SPDX-License-Identifier: MIT */
/* `weir check`: explores the scenarios with the real src/mm under a scheduler that owns every interleaving. */
#pragma once

/* 0: nothing was found that must not be there; 1: something was; 2: wrong usage. argv[0] is the command's name. */
int check_main(int argc, char **argv);
