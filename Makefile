# keyrot: PGXS.
#
#   make                     builds; any server from 15 on: make PG_CONFIG=/path/to/pg_config
#   make install             installs
#   make installcheck        tests against a running server (PGHOST, PGPORT, PGUSER)
#   make installcheck-partitioned    tests on partitioned tables
#   make unit                tests what needs no server; make unit-sanitized: under sanitizers
#   make lint                checks the rules of the house
#   make COPT='-Wall -Wextra -Werror'    builds as a developer does
#
# ./quickstart test does all of it on a server of its own.

MODULE_big = keyrot
EXTENSION = keyrot
DATA = $(wildcard sql/keyrot--*.sql)
DOCS = $(wildcard doc/*.md doc/*.svg)
PGFILEDESC = "keyrot - rotation of API credentials"

OBJS = \
	src/base/conditions.o \
	src/base/errors.o \
	src/base/notices.o \
	src/base/settings.o \
	src/base/shared.o \
	src/core/announce.o \
	src/core/argument.o \
	src/core/batch.o \
	src/core/credential.o \
	src/core/encoding.o \
	src/core/grace.o \
	src/core/lifetime.o \
	src/core/limit.o \
	src/core/request.o \
	src/core/result.o \
	src/core/retry.o \
	src/core/rights.o \
	src/core/rotation.o \
	src/core/signing.o \
	src/crypto/arena.o \
	src/crypto/base64.o \
	src/crypto/crypto.o \
	src/crypto/identifier.o \
	src/crypto/jwt.o \
	src/crypto/seal.o \
	src/crypto/secret.o \
	src/crypto/uuid7.o \
	src/functions/administration.o \
	src/functions/api.o \
	src/functions/api_read.o \
	src/functions/api_shape.o \
	src/functions/app.o \
	src/functions/bulk.o \
	src/functions/changes.o \
	src/functions/credentials.o \
	src/functions/distribution.o \
	src/functions/find.o \
	src/functions/keys.o \
	src/functions/metrics.o \
	src/functions/procedure.o \
	src/functions/request_ids.o \
	src/functions/reseal.o \
	src/functions/signature.o \
	src/functions/status.o \
	src/functions/token.o \
	src/functions/work.o \
	src/functions/zone.o \
	src/keyrot.o \
	src/keys/data_key.o \
	src/keys/keyring.o \
	src/keys/master.o \
	src/keys/master_cache.o \
	src/keys/master_command.o \
	src/keys/master_file.o \
	src/keys/master_text.o \
	src/log/current.o \
	src/log/lexer.o \
	src/log/logtext.o \
	src/log/mask.o \
	src/log/names.o \
	src/log/redact.o \
	src/log/session.o \
	src/record/counters.o \
	src/record/ledger.o \
	src/record/progress.o \
	src/record/queue.o \
	src/record/usage.o \
	src/record/usage_table.o \
	src/record/worker.o \
	src/store/app_statements.o \
	src/store/bulk_distributed.o \
	src/store/bulk_statements.o \
	src/store/change_statements.o \
	src/store/columns.o \
	src/store/credential_statements.o \
	src/store/distributed_views.o \
	src/store/distribution.o \
	src/store/key_statements.o \
	src/store/plain.o \
	src/store/request_statements.o \
	src/store/retry_statements.o \
	src/store/rows.o \
	src/store/rows_decode.o \
	src/store/rows_fast.o \
	src/store/rows_find.o \
	src/store/rows_sql.o \
	src/store/statement.o \
	src/store/tables.o \
	src/store/usage_statements.o \
	src/store/zone_statements.o

# The version number stands once, in the control file.
KEYROT_VERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" keyrot.control)

PG_CPPFLAGS = -I$(srcdir)/src -DKEYROT_VERSION='"$(KEYROT_VERSION)"'
# Functions that PostgreSQL calls get arguments that they may not need, in its own headers as well.
PG_CFLAGS = -Wno-unused-parameter
SHLIB_LINK += -lcrypto

# The tests, by their files; setup comes first, since it creates the extension.
REGRESS := setup $(filter-out setup,$(sort $(patsubst test/sql/%.sql,%,$(wildcard test/sql/*.sql))))
# Whatever the cluster's own locale and encoding, the tests run in these.
REGRESS_OPTS = --inputdir=test --no-locale --encoding=UTF8
ISOLATION := $(sort $(patsubst test/specs/%.spec,%,$(wildcard test/specs/iso_*.spec)))
# Whichever are asked for, one makes the master key before them.
ifneq ($(ISOLATION),)
override ISOLATION := iso_setup $(filter-out iso_setup,$(ISOLATION))
endif
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

KEYROT_HEADERS = $(wildcard src/*/*.h)
UNIT_SRC = $(wildcard src/crypto/*.c) $(addprefix src/,keys/master_text.c log/lexer.c log/logtext.c log/names.c)
EXTRA_CLEAN = test/unit/units test/unit/units-sanitized results regression.diffs regression.out output_iso tmp_check tmp_check_iso log

# Bitcode for JIT would need clang and serves no function of ours: none is inlined into a plan.
ifneq ($(origin with_llvm),command line)
override with_llvm = no
endif

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# A folder of our own for the chapters, whose names are anybody's.
docmoduledir = keyrot

$(OBJS): $(KEYROT_HEADERS) keyrot.control

test/unit/units test/unit/units-sanitized: $(wildcard test/unit/*.[ch]) $(UNIT_SRC) $(KEYROT_HEADERS)
	$(CC) -std=gnu11 -O2 -g -Wall -Wextra -Werror $(UNIT_FLAGS) -Isrc $(filter %.c,$^) -lcrypto -o $@

test/unit/units-sanitized: UNIT_FLAGS = -O1 -fsanitize=address,undefined -fno-sanitize-recover=all

# The same tests where keyrot.app, keyrot.zone and keyrot.request are partitioned; not those whose subject is how plain
# tables are made: which they are, their constraints, columns, triggers, statistics and locks.
OF_PLAIN_TABLES = additions additions_anywhere app_numbers columns objects policies triggers uniqueness withheld
PARTITIONED_REGRESS = $(filter-out $(OF_PLAIN_TABLES),$(REGRESS))
PARTITIONED_ISOLATION = $(filter-out iso_app_number iso_dropped iso_verify_lock,$(ISOLATION))
PARTITIONED_DB = keyrot_partitioned
PSQL = '$(bindir)/psql' -X -q -v ON_ERROR_STOP=1

define make_partitioned_db
$(PSQL) -d postgres -c 'SET client_min_messages = error' -c 'DROP DATABASE IF EXISTS $(PARTITIONED_DB)'
$(PSQL) -d postgres -c "CREATE DATABASE $(PARTITIONED_DB) TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'"
$(PSQL) -d $(PARTITIONED_DB) -c "ALTER DATABASE $(PARTITIONED_DB) SET lc_messages = 'C'" -f test/partitioned.sql
endef
PARTITIONED_OPTS = --inputdir=test --use-existing --dbname=$(PARTITIONED_DB)

.PHONY: unit unit-sanitized lint cppflags say-no-tap installcheck-partitioned partitioned-regress partitioned-isolation

installcheck-partitioned: partitioned-regress partitioned-isolation

partitioned-regress:
	$(make_partitioned_db)
	$(MAKE) installcheck TAP_TESTS= ISOLATION= REGRESS='$(PARTITIONED_REGRESS)' REGRESS_OPTS='$(PARTITIONED_OPTS)'

partitioned-isolation:
	$(make_partitioned_db)
	$(MAKE) installcheck TAP_TESTS= REGRESS= ISOLATION='$(PARTITIONED_ISOLATION)' \
		ISOLATION_OPTS='--outputdir=. $(PARTITIONED_OPTS)'

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
