/*
 * credential.h
 *	  The life of a credential, the same for apps and zones.
 */
#ifndef KEYROT_CREDENTIAL_H
#define KEYROT_CREDENTIAL_H

#include "core/request.h"
#include "store/rows.h"
#include "base/errors.h"

/* Those that take a request act on request->credential, which the caller has locked. */
extern void credential_judge_current(Oid caller, const Credential *credential);
extern void credential_require_rights(Oid caller, const Credential *credential);
extern bool credential_look_up(CredentialKind kind, const char *identifier, Credential *credential);
extern void credential_find(Oid caller, CredentialKind kind, const char *identifier, Credential *credential);
extern void credential_lock(Request *request, CredentialKind kind);

extern void credential_issue(Request *request, CredentialKind kind, const char *identifier);
extern void credential_reissue(Request *request);
extern bool credential_has_secret(Request *request);
extern void credential_renew(Request *request, Credential *credential);
extern void credential_succeed(Request *request);
extern void credential_end_grace(Request *request);
extern void credential_revert(Request *request);
extern void credential_disable(Request *request);
extern void credential_enable(Request *request);
extern void credential_set_policy(Request *request);
extern void credential_retire(Request *request);
extern void credential_set_owner(Request *request);

extern void credential_end_predecessor_grace(const Credential *credential);
extern bool credential_has_predecessor_in_grace(const Credential *credential);
extern int32 credential_previous_version(const Credential *credential);
extern CryptoStatus credential_try_open(const Credential *credential, const Sealed *sealed, int32 version,
										Secret *secret);
extern void credential_require_usable(const Credential *credential);
extern void credential_open(const Credential *credential, Secret *secret);

extern bool credential_lock_any(CredentialKind kind, const char *identifier, Credential *credential);
extern bool credential_reseal(Credential *credential);

#endif
