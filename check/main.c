// SPDX-License-Identifier: MIT
#include "check_main.h"

int main(int argc, char **argv)
{
	return check_main(argc, argv);
}
