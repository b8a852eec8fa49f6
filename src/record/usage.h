/*
 * usage.h
 *	  When credentials last verified, in shared memory.
 */
#ifndef KEYROT_USAGE_H
#define KEYROT_USAGE_H

#include "base/compat.h"

#include "store/usage_statements.h"

/* How many reasons of failure are counted apart, from 0 on. */
#define USAGE_REASONS 16

extern void usage_init(void);
extern bool usage_exists(void);

extern TimestampTz usage_clock(void);
extern void usage_note(CredentialKind kind, const char *identifier, int32 version, TimestampTz now);
extern TimestampTz usage_last(CredentialKind kind, const char *identifier, int32 version);
extern void usage_count_failure(int reason);
extern uint64 usage_failures(int reason);
extern int	usage_entries_in_use(void);

extern TimestampTz usage_begin_grace(CredentialKind kind, const char *identifier, int32 version, TimestampTz now);
extern TimestampTz usage_first_use(CredentialKind kind, const char *identifier, int32 version);

extern TimestampTz usage_due_at(void);
extern bool usage_begin_writing(void);
extern int	usage_copy_changed(UseRow *rows, int places);
extern void usage_end_writing(const UseRow *rows, int count);
extern bool usage_begin_graces(uint64 *begun);
extern int	usage_copy_graces(CredentialKind kind, FirstUse *graces, int places);
extern bool usage_forget_graces(CredentialKind kind, const FirstUse *graces, int count);
extern void usage_end_graces(uint64 begun);

#endif
