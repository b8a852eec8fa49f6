/*
 * grace.h
 *	  How long the previous version of a credential is kept.
 */
#ifndef KEYROT_GRACE_H
#define KEYROT_GRACE_H

#include "core/request.h"
#include "store/rows.h"

extern TimestampTz grace_end_at_revert(const Credential *credential, TimestampTz now);
extern bool grace_runs(const Credential *credential);
extern void grace_begin(const Request *request, Credential *credential, const Sealed *secret);
extern void grace_go_on(const Request *request, Credential *credential, const Sealed *secret, TimestampTz end);
extern void grace_forget(Credential *credential);

#endif
