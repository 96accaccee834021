"""The planted bugs: small mistakes that would cost money, each of which the suites must catch.

`make mutants` tries every one. When the code changes under one of them, test_list says so: plant it anew.
"""

from tests.mutants.planted.bug import Bug
from tests.mutants.planted.closing import CLOSING
from tests.mutants.planted.deciding import DECIDING
from tests.mutants.planted.door import DOOR
from tests.mutants.planted.opening import OPENING
from tests.mutants.planted.protecting import PROTECTING
from tests.mutants.planted.sending import SENDING
from tests.mutants.planted.settling import SETTLING
from tests.mutants.planted.storing import STORING

BUGS: tuple[Bug, ...] = (*DECIDING, *OPENING, *CLOSING, *SENDING, *SETTLING, *PROTECTING, *STORING, *DOOR)
