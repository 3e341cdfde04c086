"""Both ends prove that they know a secret, and neither tells it.

Used on the loopback interface, where any user of the machine can listen and connect: a command must
not take another user's process for its daemon either.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING

from siglip_search.service.channel import WORD_BYTES, BadMessageError

if TYPE_CHECKING:
    from siglip_search.service.channel import Channel

_DAEMON = "daemon"
_COMMAND = "command"


def prove_as_daemon(channel: Channel, secret: bytes, *, seconds: float) -> None:
    """Challenge the command, then answer its challenge.

    Raises:
        BadMessageError: It does not know the secret.
        PartnerGoneError, TimeoutError: As `Channel.receive`.
    """
    challenge = secrets.token_hex(32)
    channel.send({"challenge": challenge}, seconds=seconds)
    answer = channel.receive(seconds=seconds, limit=WORD_BYTES)
    theirs = str(answer.get("challenge"))
    _check(answer.get("proof"), secret, _COMMAND, challenge, theirs)
    channel.send({"proof": _proof(secret, _DAEMON, challenge, theirs)}, seconds=seconds)


def prove_as_command(channel: Channel, secret: bytes, *, seconds: float) -> None:
    """Answer the daemon's challenge, and challenge it.

    Raises:
        BadMessageError: It does not know the secret.
        PartnerGoneError, TimeoutError: As `Channel.receive`.
    """
    theirs = str(channel.receive(seconds=seconds, limit=WORD_BYTES).get("challenge"))
    challenge = secrets.token_hex(32)
    proof = _proof(secret, _COMMAND, theirs, challenge)
    channel.send({"challenge": challenge, "proof": proof}, seconds=seconds)
    answer = channel.receive(seconds=seconds, limit=WORD_BYTES)
    _check(answer.get("proof"), secret, _DAEMON, theirs, challenge)


def _proof(secret: bytes, who: str, daemons: str, commands: str) -> str:
    # The side is part of it: a proof sent back as one's own is worth nothing.
    said = "\n".join((who, daemons, commands)).encode("utf-8", "surrogatepass")
    return hmac.new(secret, said, "sha256").hexdigest()


def _check(proof: object, secret: bytes, who: str, daemons: str, commands: str) -> None:
    expected = _proof(secret, who, daemons, commands)
    if not isinstance(proof, str) or not hmac.compare_digest(
        proof.encode("utf-8", "surrogatepass"), expected.encode()
    ):
        raise BadMessageError(f"the {who} does not know the secret")
