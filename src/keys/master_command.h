/*
 * master_command.h
 *	  Runs keyrot.master_key_command.
 */
#ifndef KEYROT_MASTER_COMMAND_H
#define KEYROT_MASTER_COMMAND_H

#include "keys/master_text.h"
#include "base/errors.h"

extern MasterKeys *master_command_run(KeyProblem *problem);

#endif
