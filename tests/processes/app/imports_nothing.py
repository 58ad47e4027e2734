"""An application whose library is not installed."""

import no_such_library

app = no_such_library.app
