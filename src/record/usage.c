/*
 * usage.c
 *	  When credentials last verified, noted in shared memory: a table of a fixed size, for all databases.
 *
 * An entry knows the newest version of a credential that was used and the one before it, each with its last use,
 * and when a grace period that waits for a first use began.  Where there is no room, the entry that was not used
 * for the longest time goes: what is lost is written down already, but for the last minute.
 *
 * Verification must not wait, so the table is in partitions, each with a lock of its own.  Times are atomics that
 * are changed under the shared lock; only a new entry, a new version, and once a second the order of use take the
 * exclusive one.  Where a lock cannot be had at once, the use is not noted.  A write to a table instead would cost
 * each verification a transaction, and make it impossible on a standby.
 *
 * Entries are found by the OID of the credential's table, not by its kind, so that those of an extension that was
 * dropped are nobody's.  Only what was committed is noted (signing.c sees to that): so versions only grow, and one
 * that an old snapshot still sees comes too late.
 *
 * On a standby all this is read and written nowhere.
 */
#include "record/usage.h"

#include <time.h>

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "record/ledger.h"
#include "record/queue.h"
#include "record/usage_table.h"
#include "store/tables.h"

#define WRITING_PAUSE USECS_PER_MINUTE
#define GRACES_PAUSE USECS_PER_SEC
#define ORDER_PAUSE USECS_PER_SEC	/* how exact the order of use is */
#define NOTING_PAUSE 1000		/* milliseconds, before a session notes the same again */
#define NOTED_SETS 2048
#define NOTED_SLOTS 8			/* in each set, which is a line of the processor's cache */

static Tables copied;			/* those whose entries the worker has copied; it reports them written outside a transaction */

/* A use that this session has recently noted, by a hash: if two have the same hash, the second is noted later. */
typedef struct Noted
{
	uint32		hash;
	uint32		at;				/* milliseconds, without what does not fit */
} Noted;

static Noted noted_lately[NOTED_SETS][NOTED_SLOTS] pg_attribute_aligned(PG_CACHE_LINE_SIZE);

/* Requests the shared memory, if keyrot is preloaded and keyrot.usage_entries is not 0. */
void
usage_init(void)
{
	usage_table_init();
}

/* Whether uses are noted. */
bool
usage_exists(void)
{
	return usage_table != NULL;
}


/*
 * Uses and failures
 */

/*
 * The time for usage_note(): if available, from a clock that is a few milliseconds behind but four times as fast to
 * read.
 */
TimestampTz
usage_clock(void)
{
#ifdef CLOCK_REALTIME_COARSE
	struct timespec now;

	if (clock_gettime(CLOCK_REALTIME_COARSE, &now) == 0)
		return ((TimestampTz) now.tv_sec - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY) * USECS_PER_SEC +
			now.tv_nsec / 1000;
#endif
	return GetCurrentTimestamp();
}

/* Sets a time forward, never back. */
static void
advance(pg_atomic_uint64 *time, TimestampTz now)
{
	uint64		known = pg_atomic_read_u64(time);

	while (known < (uint64) now && !pg_atomic_compare_exchange_u64(time, &known, (uint64) now))
		;
}

/* Notes a use of a version that the entry knows, or that is older; false for a newer version. */
static bool
note_known(UsageEntry *entry, int32 version, TimestampTz now)
{
	if (version > entry->version)
		return false;
	if (version == entry->version)
		advance(&entry->used, now);
	else if (version == entry->version - 1)
		advance(&entry->earlier_used, now);
	return true;
}

/* Makes a newer version the entry's. The caller holds the exclusive lock. */
static void
take_version(UsageEntry *entry, int32 version)
{
	bool		is_next = version == entry->version + 1;

	pg_atomic_write_u64(&entry->earlier_used, is_next ? pg_atomic_read_u64(&entry->used) : USAGE_NEVER);
	entry->earlier_written = is_next ? entry->written : USAGE_NEVER;
	pg_atomic_write_u64(&entry->used, USAGE_NEVER);
	entry->written = USAGE_NEVER;
	entry->version = version;
}

/* Makes the worker write down what is new, within a minute or two. */
static void
announce(void)
{
	if (pg_atomic_read_u32(&usage_table->news) != NEWS_WAITS && ledger_place() == LEDGER_RECORDS)
		pg_atomic_write_u32(&usage_table->news, NEWS_WAITS);
}

/* Where this session has noted a use; if it has not, the oldest use in the set, to be replaced. */
static Noted *
noted_before(uint64 hash, Noted use)
{
	Noted	   *set = noted_lately[hash % NOTED_SETS];
	Noted	   *oldest = set;

	for (int i = 0; i < NOTED_SLOTS; i++)
	{
		if (set[i].hash == use.hash)
			return &set[i];
		if (use.at - set[i].at > use.at - oldest->at)
			oldest = &set[i];
	}
	return oldest;
}

/*
 * Notes that a version of a credential verified at a time, which is now; does nothing if it would have to wait, or if
 * this session noted the same a moment ago, which avoids most of the cost in a loop. Requires usage_exists(), and a
 * lock on keyrot's tables.
 */
void
usage_note(CredentialKind kind, const char *identifier, int32 version, TimestampTz now)
{
	UsageSought sought = usage_table_seek(kind, identifier);
	uint64		hash = hash_combine64(sought.hash, (uint64) version);
	Noted		use = {.hash = (uint32) (hash >> 32),.at = (uint32) (now / 1000)};
	Noted	   *before = noted_before(hash, use);
	UsageEntry *entry;
	bool		noted;

	if (before->hash == use.hash && use.at - before->at < NOTING_PAUSE)
		return;
	if (!LWLockConditionalAcquire(sought.lock, LW_SHARED))
		return;
	entry = usage_table_find(&sought);
	noted = entry != NULL && note_known(entry, version, now) && now < entry->ordered_at + ORDER_PAUSE;
	LWLockRelease(sought.lock);
	*before = use;
	announce();
	if (noted || !LWLockConditionalAcquire(sought.lock, LW_EXCLUSIVE))
		return;
	entry = usage_table_find_or_make(&sought, now);
	if (version > entry->version)
		take_version(entry, version);
	(void) note_known(entry, version, now);
	LWLockRelease(sought.lock);
}

static TimestampTz
time_or_none(uint64 time)
{
	return time == USAGE_NEVER ? NO_TIME : (TimestampTz) time;
}

/* When a version of a credential last verified, as far as it is known here; otherwise NO_TIME. */
TimestampTz
usage_last(CredentialKind kind, const char *identifier, int32 version)
{
	TimestampTz result = NO_TIME;
	UsageSought sought;
	UsageEntry *entry;

	if (usage_table == NULL)
		return NO_TIME;
	sought = usage_table_seek(kind, identifier);
	LWLockAcquire(sought.lock, LW_SHARED);
	entry = usage_table_find(&sought);
	if (entry != NULL && entry->version == version)
		result = time_or_none(pg_atomic_read_u64(&entry->used));
	else if (entry != NULL && entry->version == version + 1)
		result = time_or_none(pg_atomic_read_u64(&entry->earlier_used));
	LWLockRelease(sought.lock);
	return result;
}

/* Counts a failed verification, by the number of its reason. Requires usage_exists(). */
void
usage_count_failure(int reason)
{
	Assert(reason >= 0 && reason < USAGE_REASONS);
	(void) pg_atomic_fetch_add_u64(&usage_table->failures[reason], 1);
}

/* The number of verifications that failed for this reason, in all databases, since the server started. */
uint64
usage_failures(int reason)
{
	return usage_table == NULL ? 0 : pg_atomic_read_u64(&usage_table->failures[reason]);
}

/* The number of keyrot.usage_entries in use, for monitoring. */
int
usage_entries_in_use(void)
{
	return usage_table == NULL ? 0 : usage_table_count();
}


/*
 * Grace periods that begin with a first use
 */

/* When the grace period of this row's version began, or USAGE_NEVER. The caller holds the lock. */
static TimestampTz
grace_of(const UsageEntry *entry, int32 version)
{
	return entry != NULL && entry->grace_version == version ? entry->first_use : USAGE_NEVER;
}

/* When the version that replaced the previous one in the row of this version was first used; otherwise NO_TIME. */
TimestampTz
usage_first_use(CredentialKind kind, const char *identifier, int32 version)
{
	TimestampTz first_use;
	UsageSought sought;

	if (usage_table == NULL)
		return NO_TIME;
	sought = usage_table_seek(kind, identifier);
	LWLockAcquire(sought.lock, LW_SHARED);
	first_use = grace_of(usage_table_find(&sought), version);
	LWLockRelease(sought.lock);
	return time_or_none((uint64) first_use);
}

/*
 * Begins the grace period of the previous version in the row of this version, unless it has begun, and returns when
 * it began. Requires usage_exists(). Briefly waits for the lock, because the period is counted from here.
 */
TimestampTz
usage_begin_grace(CredentialKind kind, const char *identifier, int32 version, TimestampTz now)
{
	TimestampTz first_use = usage_first_use(kind, identifier, version);
	UsageSought sought;
	UsageEntry *entry;
	bool		is_news = false;

	if (first_use != NO_TIME)
		return first_use;
	sought = usage_table_seek(kind, identifier);
	LWLockAcquire(sought.lock, LW_EXCLUSIVE);
	entry = usage_table_find_or_make(&sought, now);
	first_use = grace_of(entry, version);
	if (first_use == USAGE_NEVER)
		first_use = now;
	if (version > entry->grace_version)
	{
		is_news = true;
		entry->grace_version = version;
		entry->first_use = now;
		entry->grace_is_news = true;
	}
	LWLockRelease(sought.lock);
	if (is_news && ledger_place() == LEDGER_RECORDS)
	{
		(void) pg_atomic_fetch_add_u64(&usage_table->graces_begun, 1);
		queue_show_life();
	}
	return first_use;
}


/*
 * What the worker writes down
 */

static bool
has_news_of_graces(void)
{
	return pg_atomic_read_u64(&usage_table->graces_begun) != pg_atomic_read_u64(&usage_table->graces_written);
}

/* The end of a pause; a pause that began later than now, because the clock was set back, is over. */
static TimestampTz
end_of_pause(pg_atomic_uint64 *begun_at, int64 pause, TimestampTz now)
{
	TimestampTz begun = (TimestampTz) pg_atomic_read_u64(begun_at);

	return begun > now ? now : begun + pause;
}

/* When there is work for the worker; DT_NOEND if there is none. */
TimestampTz
usage_due_at(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due = DT_NOEND;

	if (usage_table == NULL)
		return due;
	if (pg_atomic_read_u32(&usage_table->news) != NO_NEWS)
		due = end_of_pause(&usage_table->written_at, WRITING_PAUSE, now);
	if (has_news_of_graces())
		due = Min(due, end_of_pause(&usage_table->graces_written_at, GRACES_PAUSE, now));
	return due;
}

/* Whether uses are to be written now; if so, not again for a minute, even if that fails. */
bool
usage_begin_writing(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (usage_table == NULL || pg_atomic_read_u32(&usage_table->news) == NO_NEWS ||
		now < end_of_pause(&usage_table->written_at, WRITING_PAUSE, now))
		return false;
	pg_atomic_write_u64(&usage_table->written_at, (uint64) now);
	pg_atomic_write_u32(&usage_table->news, NEWS_GOES);
	return true;
}

/* Whether beginnings of grace periods are to be written now; sets their number, for usage_end_graces(). */
bool
usage_begin_graces(uint64 *begun)
{
	TimestampTz now = GetCurrentTimestamp();

	if (usage_table == NULL || !has_news_of_graces() ||
		now < end_of_pause(&usage_table->graces_written_at, GRACES_PAUSE, now))
		return false;
	pg_atomic_write_u64(&usage_table->graces_written_at, (uint64) now);
	*begun = pg_atomic_read_u64(&usage_table->graces_begun);
	return true;
}

/* All grace periods that had begun by then are in the rows. */
void
usage_end_graces(uint64 begun)
{
	pg_atomic_write_u64(&usage_table->graces_written, begun);
}

static UsageSought
seek_copied(CredentialKind kind, const char *identifier)
{
	return usage_table_seek_in(kind == CREDENTIAL_APP ? copied.app : copied.zone, identifier);
}

/* Copies the news of an entry; returns whether there are any. */
typedef bool (*Copier) (const UsageEntry *entry, void *place);

/* Copies the news of a kind's entries in this database, as far as there is room; returns their number. */
static int
copy_all(CredentialKind kind, Copier copier, char *copies, size_t size, int places)
{
	Oid			credentials;
	int			count = 0;

	copied = *tables_get();
	credentials = kind == CREDENTIAL_APP ? copied.app : copied.zone;
	for (int p = 0; p < usage_table_partitions(); p++)
	{
		int			used;
		const UsageEntry *entries = usage_table_lock_partition(p, &used);

		for (int i = 0; i < used && count < places; i++)
			if (entries[i].database == MyDatabaseId && entries[i].table == credentials &&
				copier(&entries[i], copies + count * size))
				count++;
		usage_table_unlock_partition(p);
	}
	return count;
}

static bool
copy_changed(const UsageEntry *entry, void *place)
{
	UseRow	   *row = place;
	uint64		used = pg_atomic_read_u64(unconstify(pg_atomic_uint64 *, &entry->used));
	uint64		earlier_used = pg_atomic_read_u64(unconstify(pg_atomic_uint64 *, &entry->earlier_used));

	if (used == (uint64) entry->written && earlier_used == (uint64) entry->earlier_written)
		return false;
	strlcpy(row->identifier, entry->identifier, sizeof(row->identifier));
	row->version = entry->version;
	row->last_used_at = time_or_none(used);
	row->earlier_last_used_at = time_or_none(earlier_used);
	return true;
}

/* Copies uses that have not been written, as far as there is room; the others follow a minute later. */
int
usage_copy_changed(UseRow *rows, int places)
{
	int			apps = copy_all(CREDENTIAL_APP, copy_changed, (char *) rows, sizeof(UseRow), places);
	int			zones = copy_all(CREDENTIAL_ZONE, copy_changed, (char *) &rows[apps], sizeof(UseRow), places - apps);

	for (int i = 0; i < apps + zones; i++)
		rows[i].kind = i < apps ? CREDENTIAL_APP : CREDENTIAL_ZONE;
	if (apps + zones == places)
		pg_atomic_write_u32(&usage_table->news, NEWS_WAITS);
	return apps + zones;
}

/* The copied uses have been written and committed. */
void
usage_end_writing(const UseRow *rows, int count)
{
	uint32		expected = NEWS_GOES;

	for (int i = 0; i < count; i++)
	{
		UsageSought sought = seek_copied(rows[i].kind, rows[i].identifier);
		UsageEntry *entry;

		LWLockAcquire(sought.lock, LW_EXCLUSIVE);
		entry = usage_table_find(&sought);
		if (entry != NULL && entry->version == rows[i].version)
		{
			entry->written = rows[i].last_used_at == NO_TIME ? USAGE_NEVER : rows[i].last_used_at;
			entry->earlier_written = rows[i].earlier_last_used_at == NO_TIME ? USAGE_NEVER : rows[i].earlier_last_used_at;
		}
		LWLockRelease(sought.lock);
	}
	(void) pg_atomic_compare_exchange_u32(&usage_table->news, &expected, NO_NEWS);
}

static bool
copy_grace(const UsageEntry *entry, void *place)
{
	FirstUse   *grace = place;

	if (!entry->grace_is_news)
		return false;
	strlcpy(grace->identifier, entry->identifier, sizeof(grace->identifier));
	grace->version = entry->grace_version;
	grace->at = entry->first_use;
	return true;
}

/* Copies beginnings of grace periods of one kind that are not in the rows yet, as far as there is room. */
int
usage_copy_graces(CredentialKind kind, FirstUse *graces, int places)
{
	return copy_all(kind, copy_grace, (char *) graces, sizeof(FirstUse), places);
}

/* Marks these as written, except for those whose rows could not be written; returns whether all were. */
bool
usage_forget_graces(CredentialKind kind, const FirstUse *graces, int count)
{
	bool		all = true;

	for (int i = 0; i < count; i++)
	{
		UsageSought sought = seek_copied(kind, graces[i].identifier);
		UsageEntry *entry;

		if (graces[i].still_waits)
		{
			all = false;
			continue;
		}
		LWLockAcquire(sought.lock, LW_EXCLUSIVE);
		entry = usage_table_find(&sought);
		if (entry != NULL && entry->grace_version == graces[i].version)
			entry->grace_is_news = false;
		LWLockRelease(sought.lock);
	}
	return all;
}
