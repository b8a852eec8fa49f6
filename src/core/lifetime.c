/*
 * lifetime.c
 *	  When a version's lifetime ends, when a credential is due for rotation, and which versions are valid now.
 *
 * Both times are computed when a version is created or a policy is set, in UTC, and stored.  The end of an
 * interval of months or days depends on the time zone: if it were computed when it is read, a version could
 * have expired in one session but not in another.
 */
#include "core/lifetime.h"

#include "common/int.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "core/grace.h"

/* Whether a policy may have this interval: it is greater than 0, and has no negative part. */
bool
lifetime_is_period(const Interval *period)
{
	return period->month >= 0 && period->day >= 0 && period->time >= 0 &&
		(period->month > 0 || period->day > 0 || period->time > 0);
}

/* Adds months as PostgreSQL does: if the month has no such day, to its last day. False: out of range. */
static bool
add_months(TimestampTz start, int32 months, TimestampTz *end)
{
	struct pg_tm tm;
	fsec_t		fraction;
	int32		month;

	*end = start;
	if (months == 0)
		return true;
	if (timestamp2tm(start, NULL, &tm, &fraction, NULL, NULL) != 0 ||
		pg_add_s32_overflow(tm.tm_mon - 1, months, &month))
		return false;
	tm.tm_year += month / MONTHS_PER_YEAR;
	tm.tm_mon = month % MONTHS_PER_YEAR + 1;
	tm.tm_mday = Min(tm.tm_mday, day_tab[isleap(tm.tm_year)][tm.tm_mon - 1]);
	return tm2timestamp(&tm, fraction, NULL, end) == 0;
}

/* The end of a period that begins at "start", in UTC; false if it is out of the range of timestamptz. */
bool
lifetime_end(TimestampTz start, const Interval *period, TimestampTz *end)
{
	int64		days;

	return add_months(start, period->month, end) &&
		!pg_mul_s64_overflow(period->day, USECS_PER_DAY, &days) &&
		!pg_add_s64_overflow(*end, days, end) &&
		!pg_add_s64_overflow(*end, period->time, end) &&
		IS_VALID_TIMESTAMP(*end);
}

static TimestampTz
end_or_never(TimestampTz start, const Interval *period)
{
	TimestampTz end;

	return lifetime_is_period(period) && lifetime_end(start, period, &end) ? end : NO_TIME;
}

/* Applies the credential's policy, counting from its last rotation. */
void
lifetime_begin(Credential *credential)
{
	credential->valid_until = end_or_never(credential->modified_at, &credential->policy.lifetime);
	credential->due_at = end_or_never(credential->modified_at, &credential->policy.rotate_after);
}

/* Whether the lifetime of the current version has ended, by the clock. */
bool
lifetime_is_over(const Credential *credential)
{
	return credential->valid_until != NO_TIME && GetCurrentTimestamp() >= credential->valid_until;
}

/* Whether its row contains a previous version that is valid now. */
bool
lifetime_previous_verifies(const Credential *credential)
{
	return credential->previous_secret.length > 0 && credential->disabled_at == NO_TIME &&
		grace_runs(credential);
}
