/*
 * api_shape.h
 *	  The JSON in which the two clouds answer.
 */
#ifndef KEYROT_API_SHAPE_H
#define KEYROT_API_SHAPE_H

#include "base/compat.h"

#include "utils/jsonb.h"

#include "core/request.h"

/* Writes what an action answers beside the RequestId, as fields of an object that is open. */
typedef void (*ApiFields) (Request *request, JsonbParseState **state);

typedef struct ApiShape
{
	const char *version;		/* of the cloud's API */
	const char *const *common;	/* parameters of every action, a NULL at the end; NULL: unknown ones are ignored */
	Jsonb	   *(*success) (Request *request, ApiFields fields);
	Jsonb	   *(*failure) (Request *request, const ErrorData *error, int *http_status);
} ApiShape;

extern const ApiShape api_alibaba;
extern const ApiShape api_tencent;

extern void api_shape_put_key(JsonbParseState **state, const char *key);
extern void api_shape_put_string(JsonbParseState **state, const char *key, const char *string);
extern void api_shape_put_text(JsonbParseState **state, const char *key, Datum value);
extern void api_shape_put_number(JsonbParseState **state, const char *key, int64 value);
extern void api_shape_put_time(JsonbParseState **state, const char *key, TimestampTz value);
extern void api_shape_put_boolean(JsonbParseState **state, const char *key, bool value);
extern void api_shape_put_null(JsonbParseState **state, const char *key);

#endif
