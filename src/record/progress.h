/*
 * progress.h
 *	  How far long work has come, for other sessions to see.
 */
#ifndef KEYROT_PROGRESS_H
#define KEYROT_PROGRESS_H

#include "base/compat.h"

typedef enum ProgressAction
{
	PROGRESS_RESEAL,
	PROGRESS_RESET_APPS,
	PROGRESS_REFRESH_ZONES
} ProgressAction;

/* Work under way, in credentials. */
typedef struct Progress
{
	ProgressAction action;
	int64		done;
	int64		total;
	TimestampTz started_at;
	int			pid;			/* of the session, as the next one */
	Oid			user;			/* who logged in */
} Progress;

typedef void (*ProgressReader) (const Progress *progress, void *reader_state);

extern void progress_show(const Progress *progress);
extern void progress_end(void);
extern const char *progress_action_name(ProgressAction action);
extern int64 progress_time_left(const Progress *progress, TimestampTz now);
extern void progress_read(ProgressReader reader, void *reader_state);

#endif
