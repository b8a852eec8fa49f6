/*
 * app.h
 *	  Operations on apps, for callers other than SQL functions.
 */
#ifndef KEYROT_APP_H
#define KEYROT_APP_H

#include "core/request.h"

extern const Action app_create_action;
extern const Action app_reset_secret_action;
extern const Action app_describe_security_action;
extern const Action app_modify_action;
extern const Action app_delete_action;
extern const Action app_list_action;
extern const Action app_describe_action;
extern const Action app_list_nothing_action;

#endif
