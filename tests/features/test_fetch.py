"""Images from a server that fails in every way: each failure named, nothing fetched twice."""

import signal
import threading
import time

import pytest
from image_server import drip, drop_midway, hang_up, say, status
from shop import ITEMS, png

from recbole_llm.features.fetch import ImageCache, Transport
from recbole_llm.net import public

QUICK = {"timeout_s": 0.4, "backoff_s": 0.01, "retries": 2, "concurrency": 4}
HERE = "--allow_private_hosts"  # the server of the tests is on this machine
PAGE = b"<html><body>Please log in</body></html>"


@pytest.fixture
def fetcher(server, tmp_path):
    """Return a function that fetches paths; failures are by path."""

    def call(*paths, retry_failed=False, **options):
        options = {**QUICK, "allow_private_hosts": True, **options}
        cache = ImageCache(tmp_path / "images", Transport(**options))
        urls = {server.url + path: path for path in paths}
        failures = cache.fetch(list(urls), retry_failed, show_progress=False)
        for url, path in urls.items():
            assert cache.path(url).is_file() == (url not in failures), path
        return {urls[url]: reason for url, reason in failures.items()}

    return call


def test_what_passes_is_tried_again_until_the_image_is_there(server, fetcher):
    image = png()
    server.plan = {
        "/500": [status(500), say(image)],
        "/503": [status(503), status(503), say(image)],
        "/cut": [drop_midway(image), say(image)],
        "/hung": [hang_up, say(image)],
        "/slow": [drip(image, 0.05), say(image)],
    }
    assert fetcher(*server.plan) == {}
    assert server.asked == {"/500": 2, "/503": 3, "/cut": 2, "/hung": 2, "/slow": 2}


def test_what_does_not_pass_is_asked_for_once_and_remembered(server, fetcher):
    server.plan = {
        "/gone": [status(404)],
        "/forbidden": [status(403)],
        "/page": [say(PAGE)],
        "/empty": [say(b"")],
        "/junk": [say(b"\x00\x01junk")],
        "/large": [say(png() + bytes(300_000))],
        "/round": [status(302, Location="/round")],
    }
    expected = {
        "/gone": "HTTP 404",
        "/forbidden": "HTTP 403",
        "/page": "not an image but an HTML page",
        "/empty": "not an image but nothing",
        "/junk": "not an image but other data",
        "/large": "larger than 0.25 MB",
        "/round": "too many redirects",
    }
    assert fetcher(*server.plan, max_bytes=2**18) == expected
    asked = dict(server.asked)
    assert {path: n for path, n in asked.items() if n > 1}.keys() == {"/round"}
    assert fetcher(*server.plan, max_bytes=2**18) == expected
    assert server.asked == asked
    server.plan["/gone"] = [say(png())]
    assert "/gone" not in fetcher("/gone", "/page", retry_failed=True)
    assert fetcher("/gone") == {}


def test_what_may_pass_another_day_is_asked_for_again_by_the_next_run(server, fetcher):
    image = png()
    server.plan = {
        "/busy": [status(500)] * 3 + [say(image)],
        "/cut": [drop_midway(image)] * 3 + [say(image)],
        "/slow": [drip(image, 0.05)] * 3 + [say(image)],
    }
    assert fetcher(*server.plan) == {
        "/busy": "HTTP 500",
        "/cut": "connection dropped midway",
        "/slow": "no answer within 0.4 s",
    }
    assert set(server.asked.values()) == {3}
    assert fetcher(*server.plan) == {}


def test_retry_after_holds_back_every_request_to_the_host(server, fetcher):
    server.plan = {"/0": [status(429, Retry_After="1"), say(png())]}
    assert fetcher("/0", *(f"/{n}" for n in range(1, 4)), concurrency=1) == {}
    assert server.times["/0"][1] - server.times["/0"][0] >= 0.95
    assert server.times["/1"][0] >= server.times["/0"][1]


def test_retry_after_hours_is_not_waited_for(server, fetcher):
    server.plan = {"/0": [status(429, Retry_After="7200")]}
    begin = time.monotonic()
    assert fetcher("/0") == {"/0": "HTTP 429"}
    assert time.monotonic() - begin < 5 and server.asked["/0"] == 1


def test_requests_run_beside_each_other(server, fetcher):
    barrier = threading.Barrier(4, timeout=10)

    def together(handler):
        barrier.wait()
        say(png())(handler)

    server.plan = {f"/{n}": [together] for n in range(4)}
    assert fetcher(*server.plan, timeout_s=10) == {}


def test_dead_host_is_given_up_and_bad_urls_are_named(tmp_path):
    cache = ImageCache(tmp_path, Transport(1, 1, 0.001, 1, allow_private_hosts=True))
    dead = [f"http://127.0.0.1:1/{n}" for n in range(14)]
    bad = {"htp://x/1": "invalid URL", "nonsense": "invalid URL", "http://[x/1": "invalid URL"}
    failures = cache.fetch([*dead, *bad], show_progress=False)
    reasons = [failures[url] for url in dead]
    assert reasons == ["connection failed"] * 10 + ["host unreachable"] * 4
    assert {url: failures[url] for url in bad} == bad


def test_items_share_a_url_and_failures_reach_the_manifest(shop, server, command, tiny_vit):
    whole = png(1)
    server.plan = {
        "/i2": [status(404)],
        "/i3": [say(PAGE)],
        "/i4": [say(whole[: len(whole) // 2])],
    }
    urls = {item: f"{server.url}/{item}" for item in ITEMS[:6]} | {"i6": f"{server.url}/i1"}
    shop.write_items(urls)
    options = [f"--encoder={tiny_vit}", "--url_column=image_url", "--request_retries=1", HERE]
    assert command("image", *options) == 0
    manifest, feature = shop.manifest("image"), shop.feature("image")
    assert manifest["items_without_feature"] == {
        "i2": "HTTP 404",
        "i3": "not an image but an HTML page",
        "i4": "truncated image",
        "i7": "no URL",
        "i8": "no URL",
    }
    assert (feature[0] == feature[5]).all() and feature[0].any() and feature[4].any()
    asked, first = dict(server.asked), (shop.path / "image_feat.json").read_bytes()
    assert asked == dict.fromkeys(["/i1", "/i2", "/i3", "/i4", "/i5"], 1)
    assert command("image", *options, "--overwrite") == 0
    assert dict(server.asked) == asked
    assert (shop.path / "image_feat.json").read_bytes() == first


def test_no_image_at_all_asks_about_the_network(shop, server, command, tiny_vit, capsys):
    shop.write_items({"i1": f"{server.url}/gone"})
    server.plan = {"/gone": [status(410)]}
    assert command("image", f"--encoder={tiny_vit}", "--url_column=image_url", HERE) == 2
    assert "none of the 1 images of 'image_url' could be fetched (HTTP 410)" in (
        capsys.readouterr().err
    )
    assert command("image", f"--encoder={tiny_vit}", "--url_column=title_url") == 2
    assert "has no column 'title_url'" in capsys.readouterr().err


@pytest.fixture
def stuck_on_i5(shop, server):
    """Fill the column of URLs; the first answer for i5 waits. Returns when it has begun."""
    reached, go_on = threading.Event(), threading.Event()

    def stuck(handler):
        reached.set()
        go_on.wait(60)
        handler.close_connection = True

    server.plan = {"/i5": [stuck, say(png(5))]}
    shop.write_items({item: f"{server.url}/{item}" for item in ITEMS})
    yield reached
    go_on.set()


@pytest.mark.parametrize("how", ["kill", "ctrl_c"])
def test_stopped_fetching_goes_on_and_fetches_nothing_twice(
    how, stuck_on_i5, shop, server, starter, command, tiny_vit, capsys
):
    options = [f"--encoder={tiny_vit}", "--url_column=image_url", "--concurrency=1", HERE]
    if how == "kill":
        process = starter("image", *options)
        assert stuck_on_i5.wait(60)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=20)
        assert process.returncode == -signal.SIGKILL
    else:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        main_thread = threading.main_thread().ident

        def ctrl_c():
            assert stuck_on_i5.wait(60)
            signal.pthread_kill(main_thread, signal.SIGINT)

        threading.Thread(target=ctrl_c).start()
        assert command("image", *options) == 130
        signal.signal(signal.SIGINT, before)
        assert "the same command resumes" in capsys.readouterr().err
    assert not list(shop.path.glob("*.npy"))
    assert command("image", *options) == 0
    assert server.asked == {f"/{item}": 2 if item == "i5" else 1 for item in ITEMS}
    assert shop.feature("image").any(axis=1).all()


# -- kind 10: addresses in a dataset reach public hosts only ------------------------------------


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "localhost", "0.0.0.0", "127.1", "[::ffff:127.0.0.1]"]
)
def test_kind10_this_machine_is_not_asked_for_images(server, fetcher, tmp_path, host):
    url = server.url.replace("127.0.0.1", host)
    cache = ImageCache(tmp_path / "images", Transport(**QUICK))
    for address in (f"{url}/image", f"http://{host}:1/closed"):
        assert cache.fetch([address], show_progress=False) == {address: "private address"}
    assert not server.asked
    # What is refused is not remembered as a failure for good.
    assert fetcher("/image") == {} and server.asked == {"/image": 1}


@pytest.mark.parametrize("path", ["/image", ":1/closed"])
def test_kind10_redirects_to_this_machine_are_not_followed(server, tmp_path, monkeypatch, path):
    """The server counts as public at first, as the host of a redirect would be."""
    there = server.url.rpartition(":")[0].replace("127.0.0.1", "localhost") + path
    server.plan = {"/start": [status(302, Location=there)]}
    is_allowed = [True, True]  # before and after the first connection
    monkeypatch.setattr(public, "is_public", lambda address: bool(is_allowed and is_allowed.pop()))
    cache = ImageCache(tmp_path, Transport(**QUICK))
    start = f"{server.url}/start"
    assert cache.fetch([start], show_progress=False) == {start: "private address"}
    assert server.asked == {"/start": 1}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("::ffff:8.8.8.8", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
    ],
)
def test_kind10_public_addresses(address, expected):
    assert public.is_public(address) == expected


def test_kind10_the_command_says_how_a_private_host_is_allowed(
    shop, server, command, tiny_vit, capsys
):
    shop.write_items({"i1": f"{server.url}/i1"})
    options = [f"--encoder={tiny_vit}", "--url_column=image_url"]
    assert command("image", *options) == 2
    assert "private address" in (err := capsys.readouterr().err)
    assert "--allow_private_hosts" in err
    assert command("image", *options, HERE) == 0
