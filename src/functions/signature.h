/*
 * signature.h
 *	  What functions about signatures and about tokens have in common: their arguments and answers.
 */
#ifndef KEYROT_SIGNATURE_H
#define KEYROT_SIGNATURE_H

#include "core/signing.h"

extern Signer signature_read_signer(FunctionCallInfo fcinfo, CredentialKind kind, bool has_gateway);
extern void signature_read_own(FunctionCallInfo fcinfo, CredentialKind kind, const char *function,
							   char identifier[SEAL_MAX_IDENTIFIER + 1]);
extern Datum signature_answer(FunctionCallInfo fcinfo, const Verdict *verdict, const NullableDatum *claims);

#endif
