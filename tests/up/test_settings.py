"""Every setting is read, checked and documented; whatever is wrong is one sentence that says what to write."""

import ast
import inspect
import itertools
from pathlib import Path

import pytest

from app import settings as module
from app.errors import SettingsError
from app.settings import PARSERS, Secret, Settings, env_name, load, require_servers, to_environ

KEY = "A" * 43


def test_nothing_written_means_the_defaults() -> None:
    assert load({}, None) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("LEVELHEAD_DATABASE_URL", "postgresql://u:p@h/d", "database_url", Secret("postgresql://u:p@h/d")),
        ("LEVELHEAD_DATABASE_URL", "postgres:///d?host=/run", "database_url", Secret("postgres:///d?host=/run")),
        ("LEVELHEAD_REDIS_URL", "redis://h:6379/1", "redis_url", Secret("redis://h:6379/1")),
        ("LEVELHEAD_REDIS_URL", "rediss://h", "redis_url", Secret("rediss://h")),
        ("LEVELHEAD_REDIS_URL", "unix:///run/r.sock?db=1", "redis_url", Secret("unix:///run/r.sock?db=1")),
        ("LEVELHEAD_MASTER_KEY", KEY, "master_key", Secret(KEY)),
        ("LEVELHEAD_MASTER_KEY", KEY + "=", "master_key", Secret(KEY + "=")),  # padded is fine too
        ("LEVELHEAD_HOST", "0.0.0.0", "host", "0.0.0.0"),
        ("LEVELHEAD_PORT", " 8100 ", "port", 8100),
        ("LEVELHEAD_PORT", "", "port", 8000),  # empty is not set
        ("LEVELHEAD_PUBLIC_URL", "https://bot.example.com/", "public_url", "https://bot.example.com"),
        ("LEVELHEAD_SIMULATOR_URL", "http://127.0.0.1:8090", "simulator_url", "http://127.0.0.1:8090"),
        ("LEVELHEAD_TRUSTED_PROXIES", "10.0.0.0/8, ::1", "trusted_proxies", "10.0.0.0/8,::1"),
        ("LEVELHEAD_ALERT_SOURCES", "TradingView,10.0.0.5,", "alert_sources", "tradingview,10.0.0.5"),
        ("LEVELHEAD_CERTIFICATE_HEADER", "X-Cert:CN=a, b", "certificate_header", "x-cert: CN=a, b"),
        ("LEVELHEAD_LOG_FORMAT", "JSON", "log_format", "json"),
        ("LEVELHEAD_LOG_LEVEL", "warning", "log_level", "warning"),
        ("LEVELHEAD_CLOCK_DRIFT_MAX_MS", "250", "clock_drift_max_ms", 250),
        ("LEVELHEAD_ADDRESS_NAME", "office", "address_name", "office"),
        ("LEVELHEAD_DATA_DIR", "/srv/levelhead", "data_dir", Path("/srv/levelhead")),
    ],
)
def test_a_good_value_is_taken(name: str, text: str, field: str, value: object) -> None:
    assert getattr(load({name: text}, None), field) == value


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("LEVELHEAD_DATABASE_URL", "mysql://u:hunter2@h/d", "must be a PostgreSQL URL"),
        ("LEVELHEAD_DATABASE_URL", "postgresql://h:notaport/d", "must be a PostgreSQL URL"),
        ("LEVELHEAD_REDIS_URL", "h:6379", "must be a Redis URL"),
        ("LEVELHEAD_REDIS_URL", "unix://", "must be a Redis URL"),
        ("LEVELHEAD_MASTER_KEY", "short", "must be 32 bytes"),
        ("LEVELHEAD_MASTER_KEY", "+" * 43, "must be 32 bytes"),  # plain base64 is another alphabet
        ("LEVELHEAD_PORT", "0", "from 1 to 65535"),
        ("LEVELHEAD_PORT", "80x", "from 1 to 65535"),
        ("LEVELHEAD_PORT", "-1", "from 1 to 65535"),
        ("LEVELHEAD_PORT", "²", "from 1 to 65535"),  # isdigit() alone takes it
        ("LEVELHEAD_PUBLIC_URL", "bot.example.com", "must be an origin"),
        ("LEVELHEAD_TRUSTED_PROXIES", "tradingview", "or networks such as 10.0.0.0/8, with commas, not 'tradingview'"),
        ("LEVELHEAD_TRUSTED_PROXIES", "10.0.0.1/8", "not '10.0.0.1/8'"),
        ("LEVELHEAD_TRUSTED_PROXIES", "*", "not '*'"),
        ("LEVELHEAD_CERTIFICATE_HEADER", "X-Cert", "must be a header's name and content"),
        ("LEVELHEAD_CERTIFICATE_HEADER", "X Cert: yes", "must be a header's name and content"),
        ("LEVELHEAD_CERTIFICATE_HEADER", "X-Cert: ", "must be a header's name and content"),
        ("LEVELHEAD_ALERT_SOURCES", ",", "or tradingview, not ','"),
        ("LEVELHEAD_ALERT_SOURCES", "10.0.0.5,proxy.local", "not 'proxy.local'"),
        ("LEVELHEAD_PUBLIC_URL", "https://bot.example.com/hook", "without a path"),
        ("LEVELHEAD_SIMULATOR_URL", "ftp://h", "must be an origin"),
        ("LEVELHEAD_LOG_FORMAT", "xml", "one of text, json"),
        ("LEVELHEAD_LOG_LEVEL", "loud", "one of debug, info, warning, error"),
        ("LEVELHEAD_WORKER_JOBS", "0", "from 1 to 1000"),
    ],
)
def test_a_bad_value_is_named_with_what_to_write(name: str, text: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({name: text}, None)
    sentence = str(caught.value)
    assert sentence.startswith(name)
    assert says in sentence
    assert "hunter2" not in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("LEVELHEAD_DATABSE_URL", "did you mean LEVELHEAD_DATABASE_URL?"),
        ("LEVELHEAD_MASTERKEY_FILE", "did you mean LEVELHEAD_MASTER_KEY_FILE?"),
        ("LEVELHEAD_port", "did you mean LEVELHEAD_PORT?"),
        ("LEVELHEAD_XYZZY", "docs/settings.md"),
    ],
)
def test_an_unknown_name_stops_the_start_and_the_nearest_is_suggested(name: str, says: str) -> None:
    with pytest.raises(SettingsError, match=name) as caught:
        load({name: "1"}, None)
    assert says in str(caught.value)


def test_names_of_others_are_none_of_our_business() -> None:
    assert load({"PATH": "/bin", "LEVELHEAD_TEST_REDIS_URL": "redis://h"}, None) == Settings()


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(
        "# a comment\n\nexport LEVELHEAD_HOST='::1'\nLEVELHEAD_PORT=9000 # why\n"
        'LEVELHEAD_PUBLIC_URL="https://a.example"\nOTHER=thing\n'
    )
    found = load({"LEVELHEAD_PORT": "9001"}, dotenv)
    assert (found.host, found.port, found.public_url) == ("::1", 9001, "https://a.example")


def test_a_missing_file_is_fine_and_a_broken_one_is_not(tmp_path: Path) -> None:
    assert load({}, tmp_path / ".env") == Settings()
    (tmp_path / ".env").write_text("LEVELHEAD_PORT 80\n")
    with pytest.raises(SettingsError, match="line 1: write NAME=value"):
        load({}, tmp_path / ".env")
    (tmp_path / ".env").write_text("LEVELHEAD_PROT=80\n")
    with pytest.raises(SettingsError, match="did you mean LEVELHEAD_PORT"):
        load({}, tmp_path / ".env")


def test_the_master_key_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    assert load({"LEVELHEAD_MASTER_KEY_FILE": str(tmp_path / "key")}, None).master_key_bytes() == bytes(32)
    with pytest.raises(SettingsError, match="can't be read"):
        load({"LEVELHEAD_MASTER_KEY_FILE": str(tmp_path / "nokey")}, None)


@pytest.mark.parametrize("missing", ["database_url", "redis_url", "master_key"])
def test_a_process_that_needs_servers_names_the_missing_one(missing: str) -> None:
    whole = {
        "LEVELHEAD_DATABASE_URL": "postgresql:///d",
        "LEVELHEAD_REDIS_URL": "redis://h",
        "LEVELHEAD_MASTER_KEY": KEY,
    }
    require_servers(load(whole, None))
    del whole[env_name(missing)]
    with pytest.raises(SettingsError, match=f"{env_name(missing)} is not set: write"):
        require_servers(load(whole, None))


def test_secrets_hide_themselves() -> None:
    whole = load({"LEVELHEAD_DATABASE_URL": "postgresql://u:hunter2@h/d", "LEVELHEAD_MASTER_KEY": KEY}, None)
    for shown in (repr(whole), str(whole), f"{whole.database_url}", f"{whole.database_url!r}"):
        assert "hunter2" not in shown
        assert KEY not in shown
    assert not Settings().database_url
    assert repr(Settings().database_url) == "Secret('')"


def test_a_child_reads_back_what_it_was_given(tmp_path: Path) -> None:
    given = Settings(
        database_url=Secret("postgresql:///d"), master_key=Secret(KEY), port=9000, data_dir=tmp_path, log_format="json"
    )
    (tmp_path / ".env").write_text("LEVELHEAD_HOST=0.0.0.0\nLEVELHEAD_PORT=1\n")
    assert load(to_environ(given), tmp_path / ".env") == given


def test_each_setting_has_a_parser_and_a_sentence() -> None:
    assert set(PARSERS) == set(Settings.__struct_fields__)
    tree = ast.parse(inspect.getsource(module))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    for node, after in itertools.pairwise(body):
        if isinstance(node, ast.AnnAssign):
            assert isinstance(after, ast.Expr), ast.unparse(node.target)
            assert isinstance(after.value, ast.Constant)
            assert str(after.value.value).rstrip().endswith(".")
