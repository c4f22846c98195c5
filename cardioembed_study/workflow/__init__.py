"""How notebooks become evidence: runs, executed copies, publishing."""
