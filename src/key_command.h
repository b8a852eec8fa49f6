/*
 * key_command.h
 *	  Runs keyrot.master_key_command.
 */
#ifndef KEYROT_KEY_COMMAND_H
#define KEYROT_KEY_COMMAND_H

#include "errors.h"
#include "keyfile.h"

extern MasterKeys *key_command_run(KeyProblem *problem);

#endif
