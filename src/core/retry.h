/*
 * retry.h
 *	  Repeated calls: a client_token makes the second one an answer, not another rotation.
 */
#ifndef KEYROT_RETRY_H
#define KEYROT_RETRY_H

#include "core/request.h"

extern bool retry_is_repetition(Request *request, CredentialKind kind);
extern void retry_remember(const Request *request, int32 version);

#endif
