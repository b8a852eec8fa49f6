/*
 * notices.h
 *	  Messages to users and to the server log that are not errors.
 */
#ifndef KEYROT_NOTICES_H
#define KEYROT_NOTICES_H

#include "base/compat.h"
#include "base/domain.h"

#include "crypto/seal.h"

extern void log_no_worker_slot(void);
extern void log_disclosure_undone(const char *request_id, const char *action, const char *target);
extern void warn_not_last(void);
extern void warn_does_not_open(CredentialKind kind, const char *identifier);
extern void tell_reseal(int64 done, int64 total, int64 time_left);
extern void tell_reseal_end(int data_key, int64 done, int64 unreadable, int dropped);
extern void tell_nothing_to_reseal(void);
extern void tell_master_key_exists(const char *fingerprint);
extern void warn_key_in_data_directory(void);
extern void tell_bulk_begin(CredentialKind kind, int64 total, const char *call);
extern void tell_bulk(CredentialKind kind, int64 done, int64 total, int64 rate, int64 time_left);
extern void tell_bulk_end(CredentialKind kind, int64 done);
extern void warn_last_version(CredentialKind kind, const char *identifier);

#endif
