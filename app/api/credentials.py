"""Looks at an exchange's key when it comes in, so that a key of the wrong kind is refused here and not at a trade."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from app.errors import InvalidInput
from app.keys import Credentials
from app.store.accounts import VenueName

RSA_BITS_MIN = 2048  # what both venues ask for

_DECRYPT = "remove the password with `openssl pkey -in key.pem -out plain.pem`, and give the new file"
_TAKES = {
    VenueName.BYBIT: "Bybit takes an RSA key, or api_secret of a key that Bybit made",
    VenueName.BINANCE: "Binance takes an RSA or Ed25519 key, or api_secret of a key that Binance made",
}


def checked(venue: VenueName, api_key: str, api_secret: str | None, private_key: str | None) -> Credentials:
    """The credentials, if this venue can take them. Raises InvalidInput: `bad_value`, or `bad_key` with the cure."""
    if (api_secret is None) == (private_key is None):
        raise InvalidInput("bad_value", "Give either api_secret or private_key, and not both.", "api_secret")
    _refuse_damage(api_key, "api_key")
    if api_secret is not None:
        if "-----BEGIN" in api_secret:
            raise _bad("api_secret holds a PEM: give it as private_key instead.", "api_secret")
        _refuse_damage(api_secret, "api_secret")
    if private_key is not None:
        _check_private_key(venue, private_key)
    return Credentials(api_key=api_key, api_secret=api_secret, private_key=private_key)


def _refuse_damage(text: str, field: str) -> None:
    """Keys are printable ASCII at both venues; anything else came along while copying."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise _bad(f"{field} has a space, a line break or another stray character in it: copy it again.", field)


def _check_private_key(venue: VenueName, pem: str) -> None:
    if "-----BEGIN" not in pem or "-----END" not in pem:
        raise _bad("private_key is not a PEM: give the whole file, from -----BEGIN to -----END with its line breaks.")
    if "PUBLIC KEY-----" in pem or "CERTIFICATE-----" in pem:
        raise _bad("private_key holds the public half, which belongs to the exchange: give the private one.")
    if "OPENSSH PRIVATE KEY-----" in pem:
        raise _bad("private_key is in OpenSSH's form: make one with `openssl genpkey`, or convert it to PKCS#8 PEM.")
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except TypeError:  # the library's word for an encrypted key without a password
        raise _bad(f"private_key is protected by a password, which nobody could type at night: {_DECRYPT}.") from None
    except UnsupportedAlgorithm:
        raise _bad(f"private_key is of a kind that is not known here: {_TAKES[venue]}.") from None
    except ValueError:
        raise _bad("private_key can't be read: give the whole PEM file as it is, with its line breaks.") from None
    match key:
        case rsa.RSAPrivateKey():
            if key.key_size < RSA_BITS_MIN:
                raise _bad(f"private_key has {key.key_size} bits, and {RSA_BITS_MIN} are needed: make a longer one.")
        case ed25519.Ed25519PrivateKey() if venue is VenueName.BINANCE:
            pass
        case ed25519.Ed25519PrivateKey():
            raise _bad(f"private_key is an Ed25519 key: {_TAKES[venue]}.")
        case _:
            raise _bad(f"private_key is neither RSA nor Ed25519: {_TAKES[venue]}.")


def _bad(detail: str, field: str = "private_key") -> InvalidInput:
    """The value is never repeated: it is a secret."""
    return InvalidInput("bad_key", detail, field)
