import base64
import hmac

import pytest

from app.keys import (
    BLOCK_BYTES,
    Credentials,
    Keys,
    Lasting,
    SealBroken,
    hash_password,
    hmac_sha256,
    new_secret,
    same,
    verify_password,
)

MASTER = bytes(range(32))


def test_derived_keys_never_change() -> None:
    # Vectors: with another derivation nothing that is stored could be read or recognised again.
    keys = Keys(MASTER)
    assert keys.install.hex() == "75a4d4c65df886345b3b9df91550219e122dcb40551527e2f651d66fec0a19bd"
    assert keys.access_token.hex() == "22e4058dc3eebff5ed353e913252d96295735291c2240fd860e50300ea150954"
    assert keys.secret_hash("secret").hex() == "4acb4d3545abecb5ad886af76a3fc5f662e69a823482f744d460c4cd2f59136e"
    assert keys.refresh_token_hash("secret").hex() == "ec6c94079138458d55b9f39b57eacc3d9e2d190c6c86580095a23e0596065684"
    assert keys.body_hash(b"secret").hex() == "0eb330fccd37b533979ab3f4a9ec651ad557179015c5634170ecd668224500db"


def test_bodies_are_hashed_with_the_lasting_key_that_was_put_there() -> None:
    keys, first = Keys(MASTER), Keys(bytes(32))
    keys.lasting = first.lasting
    assert keys.body_hash(b"x") == first.body_hash(b"x") != Keys(MASTER).body_hash(b"x")
    assert keys.lasting == Lasting(install=first.install, body=first.lasting.body)


@pytest.mark.parametrize("key_bytes", [0, 1, 32, BLOCK_BYTES, BLOCK_BYTES + 1, 200])
def test_a_message_is_hashed_as_the_standard_library_does(key_bytes: int) -> None:
    key = MASTER[::-1] * 7
    digest = hmac_sha256(key[:key_bytes])
    for message in (b"", b"x", MASTER, MASTER * 2, MASTER * 2000, b""):
        assert digest(message) == hmac.digest(key[:key_bytes], message, "sha256")


def test_each_purpose_has_a_key_of_its_own() -> None:
    keys = Keys(MASTER)
    made = {keys.secret_hash("x"), keys.refresh_token_hash("x"), keys.body_hash(b"x"), keys.install, keys.access_token}
    assert len(made) == 5


def test_another_master_key_gives_other_keys() -> None:
    assert Keys(MASTER).secret_hash("x") != Keys(bytes(32)).secret_hash("x")


def test_a_master_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keys(b"short")


@pytest.mark.parametrize("padding", ["=", ""])
def test_the_setting_is_read_with_and_without_padding(padding: str) -> None:
    text = base64.urlsafe_b64encode(MASTER).decode().rstrip("=") + padding
    assert Keys.from_text(text).install == Keys(MASTER).install


def test_what_is_sealed_opens_again() -> None:
    keys = Keys(MASTER)
    sealed = keys.seal(b"plain", b"row 1")
    assert b"plain" not in sealed
    assert keys.open_sealed(sealed, b"row 1") == b"plain"
    assert keys.seal(b"plain", b"row 1") != sealed


def test_a_sealed_text_opens_only_in_its_row_whole_and_under_its_key() -> None:
    keys = Keys(MASTER)
    sealed = keys.seal(b"plain", b"row 1")
    changed = [sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :] for place in range(len(sealed))]
    for other in (*changed, sealed[:-1], sealed[:12], b""):
        with pytest.raises(SealBroken):
            keys.open_sealed(other, b"row 1")
    with pytest.raises(SealBroken):
        keys.open_sealed(sealed, b"row 2")
    with pytest.raises(SealBroken):
        Keys(bytes(32)).open_sealed(sealed, b"row 1")


def test_secrets_are_long_and_differ() -> None:
    assert len({new_secret() for _ in range(100)}) == 100
    assert len(base64.urlsafe_b64decode(new_secret() + "=")) == 32


def test_hashes_are_compared_whole() -> None:
    assert same(b"abc", b"abc")
    assert not same(b"abc", b"abd")
    assert not same(b"abc", b"ab")


async def test_a_password_is_recognised_and_another_is_not() -> None:
    stored = await hash_password("right")
    assert stored.startswith("$argon2id$")
    assert await verify_password(stored, "right")
    assert not await verify_password(stored, "wrong")


async def test_nobody_has_no_password() -> None:
    assert not await verify_password(None, "")
    assert not await verify_password("not a hash", "x")
    assert not await verify_password(await hash_password("x" * 2000), "x" * 2000)


def test_reprs_hide_what_they_hold() -> None:
    assert "abc" not in repr(Credentials(api_key="abc", api_secret="abc"))
    assert repr(Keys(MASTER)) == "Keys(…)"
