/*
 * usage_table.h
 *	  The table of usage.c.  For these two files alone.
 */
#ifndef KEYROT_USAGE_TABLE_H
#define KEYROT_USAGE_TABLE_H

#include "base/compat.h"

#include "port/atomics.h"
#include "storage/lwlock.h"

#include "record/usage.h"

#define USAGE_NEVER 0			/* no time */
#define USAGE_MAX_PARTITIONS 64

/* Whether there are uses that are not written down. */
enum
{
	NO_NEWS,
	NEWS_WAITS,
	NEWS_GOES					/* is being written, or could not be */
};

/* What a verification looks at comes first: it is waited for to come from memory. */
typedef struct pg_attribute_aligned(PG_CACHE_LINE_SIZE) UsageEntry
{
	Oid			database;
	Oid			table;
	uint64		hash;
	int			next;			/* in the same bucket */
	int32		version;
	pg_atomic_uint64 used;		/* when that version was last used; USAGE_NEVER, as all that follow */
	TimestampTz ordered_at;		/* when it was last put at the end of the order of use */
	char		identifier[SEAL_MAX_IDENTIFIER + 1];
	pg_atomic_uint64 earlier_used;	/* when the version before was */
	int			before;			/* in the order of use */
	int			after;
	TimestampTz written;		/* what of both times is in the table */
	TimestampTz earlier_written;
	int32		grace_version;	/* of the row whose previous version has a grace period that waited */
	TimestampTz first_use;		/* when that began */
	bool		grace_is_news;	/* the row does not say so yet */
} UsageEntry;

/* Entries that share a lock. */
typedef struct UsagePartition
{
	int			used;			/* entries, from the first on */
	int			oldest;			/* in the order of use */
	int			newest;
} UsagePartition;

typedef struct UsageTable
{
	uint64		seed;			/* random, so that nobody can choose identifiers that collide */
	pg_atomic_uint32 news;
	pg_atomic_uint64 written_at;
	pg_atomic_uint64 graces_begun;	/* grows with each */
	pg_atomic_uint64 graces_written;	/* how many had begun when none was left to be written down */
	pg_atomic_uint64 graces_written_at;
	UsagePartition	partitions[USAGE_MAX_PARTITIONS];
	pg_atomic_uint64 failures[USAGE_REASONS];
} UsageTable;

/* What is looked for, and where. */
typedef struct UsageSought
{
	Oid			table;
	uint64		hash;
	const char *identifier;
	UsagePartition *partition;
	LWLock	   *lock;
	int		   *buckets;		/* of the partition, as the next one */
	UsageEntry *entries;
} UsageSought;

extern UsageTable *usage_table; /* NULL: uses are not noted */

extern void usage_table_init(void);
extern UsageSought usage_table_seek_in(Oid credentials, const char *identifier);
extern UsageSought usage_table_seek(CredentialKind kind, const char *identifier);
extern UsageEntry *usage_table_find(const UsageSought *sought);
extern UsageEntry *usage_table_find_or_make(const UsageSought *sought, TimestampTz now);
extern int	usage_table_count(void);
extern int	usage_table_partitions(void);
extern const UsageEntry *usage_table_lock_partition(int number, int *count);
extern void usage_table_unlock_partition(int number);

#endif
