// SPDX-License-Identifier: GPL-2.0
/*
 * The events of huge leaves. They are used in several files, which are built with
 * different options.
 */
#define CREATE_TRACE_POINTS
#include <trace/events/huge_iomap.h>
