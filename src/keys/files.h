/*
 * files.h
 *	  Small files, read whole and written so that they outlast a crash.
 */
#ifndef KEYROT_FILES_H
#define KEYROT_FILES_H

#include "base/compat.h"

extern ssize_t files_read_all(int file, char *buffer, size_t size);
extern bool files_create(const char *path, const char *contents, size_t length);
extern bool files_replace(const char *path, const char *temporary);
extern bool files_sync(int file);
extern bool files_sync_parent(const char *path);

#endif
