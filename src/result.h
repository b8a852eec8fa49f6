/*
 * result.h
 *	  What SQL functions return: a RequestId, a row, a secret as text.
 */
#ifndef KEYROT_RESULT_H
#define KEYROT_RESULT_H

#include "request.h"

extern Datum result_request_id(const Request *request);
extern Datum result_row(FunctionCallInfo fcinfo, Datum *values, int count);
extern Datum result_secret_text(const char *text, size_t length);
extern void result_wipe_text(Datum text);

#endif
