# keyrot: PGXS.
#
#   make                     builds; any server from 15 on: make PG_CONFIG=/path/to/pg_config
#   make install             installs
#   make installcheck        tests against a running server (PGHOST, PGPORT, PGUSER)
#   make unit                tests what needs no server; make unit-sanitized: under sanitizers
#   make lint                checks the rules of the house
#   make COPT='-Wall -Wextra -Werror'    builds as a developer does
#
# ./quickstart test does all of it on a server of its own.

MODULE_big = keyrot
EXTENSION = keyrot
DATA = $(wildcard sql/keyrot--*.sql)
PGFILEDESC = "keyrot - rotation of API credentials"

OBJS = \
	src/administration.o \
	src/api.o \
	src/api_read.o \
	src/api_shape.o \
	src/app.o \
	src/argument.o \
	src/conditions.o \
	src/credential.o \
	src/crypto.o \
	src/dependents.o \
	src/errors.o \
	src/files.o \
	src/identifier.o \
	src/key_administration.o \
	src/key_cache.o \
	src/key_command.o \
	src/key_file.o \
	src/key_marker.o \
	src/keyfile.o \
	src/keyring.o \
	src/keyrot.o \
	src/ledger.o \
	src/lexer.o \
	src/limit.o \
	src/logtext.o \
	src/mask.o \
	src/master_key.o \
	src/names.o \
	src/owner.o \
	src/queue.o \
	src/redact.o \
	src/request.o \
	src/reseal.o \
	src/result.o \
	src/retry.o \
	src/rights.o \
	src/rows.o \
	src/seal.o \
	src/secret.o \
	src/settings.o \
	src/signature.o \
	src/store.o \
	src/store_apps.o \
	src/store_keys.o \
	src/store_requests.o \
	src/store_run.o \
	src/tables.o \
	src/token.o \
	src/uuid7.o \
	src/worker.o \
	src/wrapping.o \
	src/zone.o

# The version number stands once, in the control file.
KEYROT_VERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" keyrot.control)

PG_CPPFLAGS = -DKEYROT_VERSION='"$(KEYROT_VERSION)"'
# Functions that PostgreSQL calls get arguments that they may not need, in its own headers as well.
PG_CFLAGS = -Wno-unused-parameter
SHLIB_LINK += -lcrypto

# The tests, by their files; setup comes first, since it creates the extension.
REGRESS := setup $(filter-out setup,$(sort $(patsubst test/sql/%.sql,%,$(wildcard test/sql/*.sql))))
# Whatever the cluster's own locale and encoding, the tests run in these.
REGRESS_OPTS = --inputdir=test --no-locale --encoding=UTF8
ISOLATION := $(sort $(patsubst test/specs/%.spec,%,$(wildcard test/specs/iso_*.spec)))
# PGXS gives isolation tests an output folder of their own, where ./expected would not be found.
ISOLATION_OPTS = --inputdir=test --outputdir=.
PROVE_TESTS = test/t/*.pl

# The TAP tests start servers of their own.  Where they cannot, say so instead of failing.
ifneq ($(filter installcheck,$(MAKECMDGOALS)),)
NO_TAP := $(shell \
	if [ "$$(id -u)" = 0 ]; then echo "root may not start a server"; \
	elif ! perl -MIPC::Run -e 1 2>/dev/null; then echo "Perl's IPC::Run is missing (libipc-run-perl)"; fi)
endif
ifeq ($(NO_TAP),)
TAP_TESTS = 1
else
installcheck: say-no-tap
endif

UNIT_SRC = $(addprefix src/,crypto.c identifier.c keyfile.c lexer.c logtext.c names.c seal.c secret.c token.c \
	uuid7.c)
EXTRA_CLEAN = test/unit/units test/unit/units-sanitized results regression.diffs regression.out output_iso tmp_check tmp_check_iso log

# Bitcode for JIT would need clang and serves no function of ours: none is inlined into a plan.
ifneq ($(origin with_llvm),command line)
override with_llvm = no
endif

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

$(OBJS): $(wildcard src/*.h) keyrot.control

test/unit/units test/unit/units-sanitized: $(wildcard test/unit/*.[ch]) $(UNIT_SRC) $(wildcard src/*.h)
	$(CC) -std=gnu11 -O2 -g -Wall -Wextra -Werror $(UNIT_FLAGS) -Isrc $(filter %.c,$^) -lcrypto -o $@

test/unit/units-sanitized: UNIT_FLAGS = -O1 -fsanitize=address,undefined -fno-sanitize-recover=all

.PHONY: unit unit-sanitized lint cppflags say-no-tap

unit: test/unit/units
	./test/unit/units

unit-sanitized: test/unit/units-sanitized
	./test/unit/units-sanitized

lint:
	PG_CONFIG='$(PG_CONFIG)' ./test/lint

# What test/lint hands to clang-tidy.
cppflags:
	@echo $(CPPFLAGS)

say-no-tap:
	@echo "the TAP tests are left out: $(NO_TAP)"
