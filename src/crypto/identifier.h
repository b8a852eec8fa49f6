/*
 * identifier.h
 *	  The public names: AppKey, ZoneId, GatewayId; which are well-formed, and how they are generated.
 */
#ifndef KEYROT_IDENTIFIER_H
#define KEYROT_IDENTIFIER_H

#include "crypto/crypto.h"

#define APP_KEY_MIN				4
#define APP_KEY_MAX				128
#define ZONE_ID_MAX				64
#define CLIENT_TOKEN_MAX		64
#define APP_KEY_MADE_LENGTH		22	/* "ak" and 20 characters */
#define GATEWAY_ID_MADE_LENGTH	15	/* "mpgw-" and 10 characters */

extern bool identifier_is_app_key(const char *text, size_t length);
extern bool identifier_is_zone_id(const char *text, size_t length);
extern bool identifier_is_client_token(const char *text, size_t length);

extern CryptoStatus identifier_make_app_key(CryptoDraw *draw, char text[APP_KEY_MADE_LENGTH + 1]);
extern CryptoStatus identifier_make_gateway_id(CryptoDraw *draw, char text[GATEWAY_ID_MADE_LENGTH + 1]);

#endif
