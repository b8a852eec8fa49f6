/*
 * lifetime.h
 *	  When a version's life ends, and when a credential is due for rotation.
 */
#ifndef KEYROT_LIFETIME_H
#define KEYROT_LIFETIME_H

#include "base/compat.h"

#include "store/rows.h"

extern bool lifetime_is_period(const Interval *period);
extern bool lifetime_end(TimestampTz start, const Interval *period, TimestampTz *end);
extern void lifetime_begin(Credential *credential);
extern bool lifetime_is_over(const Credential *credential);
extern bool lifetime_previous_verifies(const Credential *credential);

#endif
