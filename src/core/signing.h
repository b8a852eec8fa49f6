/*
 * signing.h
 *	  HMACs under credentials: by whom a message was signed, and signing one.
 */
#ifndef KEYROT_SIGNING_H
#define KEYROT_SIGNING_H

#include "base/compat.h"

#include "core/argument.h"
#include "store/rows.h"

/* The current version and one in grace. */
#define SIGNING_MAX_VERSIONS 2

/* Who is said to have signed. */
typedef struct Signer
{
	CredentialKind kind;
	bool		well_formed;	/* what follows can be an identifier; else it is not to be read */
	bool		has_gateway;
	char		identifier[SEAL_MAX_IDENTIFIER + 1];
	char		gateway_id[ZONE_ID_MAX + 1];
} Signer;

/* The answer, in the order in which reasons count: the first that applies. */
typedef enum Reason
{
	REASON_MALFORMED,
	REASON_UNKNOWN,
	REASON_DISABLED,
	REASON_NO_SUCH_GATEWAY,
	REASON_MISMATCH,
	REASON_EXPIRED,
	REASON_TOKEN_EXPIRED,
	REASON_TOKEN_NOT_YET_VALID,
	REASON_OK
} Reason;

/* What was presented: a message and its MAC. */
typedef struct Presented
{
	CryptoHash	hash;
	Bytes		message;
	uint8_t		mac[CRYPTO_MAX_MAC_BYTES];
	size_t		mac_length;		/* other than the hash's: nothing that could be right */
	Reason		worth;			/* the answer where all of it is right */
} Presented;

typedef struct Verdict
{
	Reason		reason;
	int32		version;		/* the one that signed; 0: none did */
	bool		previous;		/* it is in grace */
} Verdict;

/* What a message was signed with. */
typedef struct Signature
{
	char		identifier[SEAL_MAX_IDENTIFIER + 1];
	int32		version;
	uint8_t		mac[CRYPTO_MAX_MAC_BYTES];
} Signature;

extern Verdict signing_judge(const Signer *signer, const Presented *presented);
extern const char *signing_reason(Reason reason);
extern size_t signing_sign(CredentialKind kind, const char *identifier, CryptoHash hash, Bytes message,
						   uint8_t mac[CRYPTO_MAX_MAC_BYTES]);
extern int	signing_sign_with_all(CredentialKind kind, const char *identifier, CryptoHash hash, Bytes message,
								  Signature signatures[SIGNING_MAX_VERSIONS]);

#endif
