/*
 * rotation.h
 *	  A credential's next version, under the same AppKey or ZoneId.
 */
#ifndef KEYROT_ROTATION_H
#define KEYROT_ROTATION_H

#include "core/request.h"

extern void rotation_rotate(Request *request, CredentialKind kind);
extern void rotation_set(Request *request, CredentialKind kind);

#endif
