//! The public port shows the published images and the commands to get them in a browser; tested with a real Chromium.

use std::path::Path;

use serde_json::{Value, json};
use testing::browser::Browser;
use testing::client::{Answer, Curl};
use testing::images::Images;
use testing::scene::Scene;

#[test]
fn the_page_shows_published_images_and_working_commands() {
    let scene = Scene::start_with(|setup| {
        "title = \"Images of Example & Sons\"\nsimplestreams = true".clone_into(&mut setup.more_public);
        "[store]\ndirectory = \"store\"".clone_into(&mut setup.more);
    });
    let images = Images::new();
    let named = images.split("Debian 12, with tools");
    named.import(
        &scene.incus,
        &["--public", "--alias", "debian/12", "--alias", "bookworm"],
    );
    let nameless = images.unified("Alpine, for builds");
    nameless.import(&scene.incus, &["--public"]);
    let private = images.split("not for you");
    private.import(&scene.incus, &["--alias", "private"]);
    scene.refresh();

    let browser = Browser::start();
    let url = scene.gateway.public_url();
    browser.open(&url);

    assert_eq!(browser.text("h1"), "Images of Example & Sons");
    assert_eq!(browser.run("return document.title"), "Images of Example & Sons");
    assert_eq!(
        browser.texts(".images h3"),
        ["Alpine, for builds", "debian/12"],
        "in the order of names"
    );
    assert_eq!(browser.texts(".images p"), ["Debian 12, with tools"]);
    assert_eq!(browser.texts(".aliases li"), ["bookworm"]);
    assert_eq!(browser.text("output"), "2 images");
    let facts = browser.texts(".images > li:last-child .facts li");
    let stored: Value = scene.get(&format!("/1.0/images/{}", named.fingerprint)).json();
    let day = &stored["metadata"]["uploaded_at"].as_str().expect("a date")[..10];
    assert_eq!(
        facts,
        ["container", "x86_64", "20.0 KiB", day, &named.fingerprint[..12]]
    );
    let page = browser.text("body");
    assert!(
        !page.contains("not for you") && !page.contains(&private.fingerprint[..12]),
        "{page}"
    );

    // The commands offered for copying work.
    let commands = browser.texts(".command code");
    let add = format!("incus remote add published {url} --public");
    let simplestreams = format!("remote add published {url} --protocol=simplestreams");
    let alpine = format!("incus launch published:{}", &nameless.fingerprint[..12]);
    assert_eq!(
        commands,
        [
            add.clone(),
            format!("incus {simplestreams}"),
            format!("lxc {simplestreams}"),
            alpine,
            "incus launch published:debian/12".to_owned()
        ]
    );
    for client in [testing::client::Client::stranger(), testing::client::Client::lxd()] {
        client.trust_remote("published", &scene.setup.server);
        client.run(&simplestreams.split(' ').collect::<Vec<_>>()).ok();
        client.run(&["image", "list", "published:"]).ok();
    }
    let stranger = testing::client::Client::stranger();
    let words = add.split(' ').skip(1).chain(["--accept-certificate"]);
    stranger.run(&words.collect::<Vec<_>>()).ok();
    for command in &commands[3..] {
        let name = command.rsplit(' ').next().expect("what is launched");
        let shown = stranger.run(&["image", "info", name]).ok();
        assert!(shown.contains("Public: yes"), "{shown}");
    }
    browser.run(
        "const button = document.querySelector('.command button');
        window.copied = new Promise(said => new MutationObserver(() => said(button.textContent))
            .observe(button, {childList: true}));",
    );
    browser.click(&browser.find(".command button"));
    assert_eq!(browser.run("return window.copied"), "Copied");
    // Ctrl+V.
    browser.type_into(&browser.find("#q"), "\u{e009}v\u{e000}");
    assert_eq!(
        browser.run("return document.getElementById('q').value"),
        Value::from(add.as_str())
    );

    assert_layouts(&browser, &url);
    assert_eq!(browser.complaints(), [""; 0]);
    let requests = browser.requests();
    let elsewhere = requests.iter().filter(|to| !to.starts_with(&url));
    assert_eq!(elsewhere.collect::<Vec<_>>(), [""; 0], "of {requests:?}");
    assert!(requests.len() >= 5, "{requests:?}");
}

/// Panics if anything is wider than the window or has low contrast. Writes screenshots.
fn assert_layouts(browser: &Browser, url: &str) {
    for (scheme, ground) in [("light", "rgb(255, 255, 255)"), ("dark", "rgb(16, 18, 22)")] {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.devtools("Emulation.setEmulatedMedia", &features);
        for (shape, width, height) in [("desk", 1200, 900), ("phone", 360, 740)] {
            let window = json!({"width": width, "height": height, "deviceScaleFactor": 2, "mobile": shape == "phone"});
            browser.devtools("Emulation.setDeviceMetricsOverride", &window);
            browser.open(url);
            let painted = browser.run("return getComputedStyle(document.body).backgroundColor");
            assert_eq!(painted, ground, "{scheme}");
            let overflow = browser.run("return document.documentElement.scrollWidth - innerWidth");
            assert!(overflow.as_i64() <= Some(0), "{overflow} pixels too wide on a {shape}");
            browser.picture(&Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{scheme}-{shape}.png")));
        }
    }
}

#[test]
fn the_search_works_while_typing_and_without_scripts() {
    let scene = Scene::start();
    let images = Images::new();
    for (description, alias) in [
        ("Debian trixie", "debian/13"),
        ("Debian bookworm", "debian/12"),
        ("Alpine", "alpine"),
    ] {
        images
            .split(description)
            .import(&scene.incus, &["--public", "--alias", alias]);
    }
    scene.refresh();
    let browser = Browser::start();
    browser.open(&scene.gateway.public_url());
    let input = browser.find("#q");
    browser.type_into(&input, "deb");
    assert_eq!(browser.texts(".images h3"), ["debian/12", "debian/13"]);
    assert_eq!(browser.text("output"), "2 of 3 images");
    browser.type_into(&input, "IAN  trixie");
    assert_eq!(browser.texts(".images h3"), ["debian/13"]);
    browser.type_into(&input, " windows");
    assert_eq!(browser.texts(".images h3"), [""; 0]);
    assert_eq!(browser.text("output"), "0 of 3 images");
    // Ctrl+A and Delete.
    browser.type_into(&input, "\u{e009}a\u{e000}\u{e003}");
    assert_eq!(browser.texts(".images h3").len(), 3);

    browser.devtools("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    browser.open(&scene.gateway.public_url());
    assert_eq!(browser.texts(".images h3").len(), 3);
    assert_eq!(browser.texts("button"), [""; 0], "nothing that would do nothing");
    browser.type_into(&browser.find("#q"), "Trixie x86\n");
    assert_eq!(browser.texts(".images h3"), ["debian/13"]);
    assert_eq!(browser.text("output"), "1 of 3 images");
    assert_eq!(browser.run("return document.getElementById('q').value"), "Trixie x86");
}

#[test]
fn image_properties_are_escaped() {
    const HOSTILE: [&str; 5] = [
        "<script>document.title = 'taken'</script>",
        "<img src=x onerror=\"document.title='taken'\">",
        "\"><style>body{display:none}</style>'",
        "&lt;b&gt; &amp; ${7*7} {{7*7}} `id` $(id)",
        "\u{202e}gnp.exe</li></ul></html>",
    ];
    let scene = Scene::start();
    let images = Images::new();
    for description in HOSTILE {
        images.split(description).import(&scene.incus, &["--public"]);
    }
    let odd = images.split("odd name");
    odd.import(&scene.incus, &["--public", "--alias", "a';reboot;'<b>"]);
    scene.refresh();

    let browser = Browser::start();
    browser.open(&scene.gateway.public_url());
    let mut shown = browser.texts(".images h3");
    let mut expected: Vec<_> = HOSTILE.iter().map(|text| (*text).to_owned()).collect();
    expected.push("a';reboot;'<b>".to_owned());
    shown.sort();
    expected.sort();
    assert_eq!(shown, expected);
    assert_eq!(browser.text("output"), "6 images");
    assert!(
        browser
            .run("return document.title")
            .as_str()
            .is_some_and(|title| title.starts_with("Images of "))
    );
    let commands = browser.texts(".images .command code");
    assert!(commands.iter().all(|command| is_plain(command)), "{commands:?}");
    assert!(commands.contains(&format!("incus launch published:{}", &odd.fingerprint[..12])));

    // The same in the search box.
    let query = "?q=%22%3E%3Cscript%3Edocument.title%3D%27taken%27%3C%2Fscript%3E";
    browser.open(&format!("{}/{query}", scene.gateway.public_url()));
    assert_ne!(browser.run("return document.title"), "taken");
    assert_eq!(
        browser.run("return document.getElementById('q').value"),
        "\"><script>document.title='taken'</script>"
    );
    assert_eq!(browser.complaints(), [""; 0]);
}

/// Returns whether a shell parses this as plain words.
fn is_plain(command: &str) -> bool {
    command
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || " -_./@+:%=,".contains(c))
}

#[test]
fn only_requests_that_accept_html_get_the_page() {
    let scene = Scene::start();
    let ask = |path: &str, accept: &str| {
        let url = format!("{}{path}", scene.gateway.public_url());
        Curl::get(url).header(&format!("Accept: {accept}")).answer()
    };
    let page = ask("/", "text/html,*/*;q=0.8");
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    assert!(page.text().contains("No images are published yet."));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(
        policy.starts_with("default-src 'none';") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(
        policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"),
        "{policy}"
    );
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));

    assert_is_refused(&ask("/", "*/*"));
    assert_is_refused(&ask("/index.html", "text/html"));
    let post = Curl::get(scene.gateway.public_url())
        .header("Accept: text/html")
        .method("POST");
    assert_is_refused(&post.answer());
    assert_eq!(
        ask("/1.0", "text/html").header("content-type"),
        Some("application/json")
    );

    let without = scene.setup.text().replace("[admin]", "page = false\n[admin]");
    scene.gateway.reconfigure(&without);
    scene.gateway.signal("HUP");
    scene.gateway.wait_for_log("reloaded");
    assert_is_refused(&ask("/", "text/html"));
}

#[track_caller]
fn assert_is_refused(answer: &Answer) {
    assert_eq!(answer.status, 403);
    assert_eq!(answer.json()["error"], "Public access limited to image downloads only");
}

#[test]
fn without_incus_the_page_reports_it() {
    let scene = Scene::start_with(|setup| "https://127.0.0.1:1".clone_into(&mut setup.upstream));
    let url = scene.gateway.public_url();
    let answer = Curl::get(url).header("Accept: text/html").answer();
    assert_eq!(answer.status, 503);
    assert!(
        answer.text().contains("the image list is currently unavailable"),
        "{}",
        answer.text()
    );
}

/// The next command would use another server than this one.
#[test]
fn the_proposed_remote_name_is_not_taken_by_default() {
    let scene = Scene::start();
    let client = testing::client::Client::stranger();
    let remotes = client.run(&["remote", "list", "--format=csv"]).ok();
    let names = remotes.lines().filter_map(|line| line.split([',', ' ']).next());
    let names: Vec<_> = names.collect();
    assert!(names.contains(&"images") && names.contains(&"local"), "{remotes}");
    for name in names {
        let page = Curl::get(scene.gateway.public_url())
            .header("Accept: text/html")
            .header(&format!("Host: {name}.example.org"))
            .answer();
        assert_eq!(page.status, 200);
        let add = format!("incus remote add published https://{name}.example.org:443 --public");
        assert!(page.text().contains(&add), "{}", page.text());
    }
}
