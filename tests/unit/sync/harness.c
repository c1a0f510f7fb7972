#include "tests/unit/sync/samples.h"
