//! Jobs, their sidecars, and signed links to these.

use crate::{fixture, shared};

fn done(name: &str) -> String {
    let answer = shared().client.post_form("/api/v1/ocr", &[], &[], Some((name, &fixture("digital.pdf"))));
    answer.must(200).json()["job"].as_str().unwrap().to_owned()
}

#[test]
fn jobs_are_listed_by_page_and_state() {
    let client = &shared().client;
    let ids: Vec<String> = (0..3).map(|number| done(&format!("list-{number}.pdf"))).collect();
    let first = client.get("/api/v1/jobs?limit=2&state=done").must(200);
    let tag = first.header("etag").unwrap().to_owned();
    let page = first.json();
    assert_eq!(page["jobs"].as_array().unwrap().len(), 2);
    let next = page["next"].as_str().unwrap();
    assert_eq!(page["jobs"][1]["id"], next);
    let second = client.get(&format!("/api/v1/jobs?limit=100&before={next}")).must(200).json();
    assert!(
        second["jobs"].as_array().unwrap().iter().any(|job| job["id"] == *ids[0]) || page["jobs"].to_string().contains(&ids[0])
    );
    assert!(second["jobs"].as_array().unwrap().iter().all(|job| job["id"].as_str().unwrap() < next));
    let _ = tag;
    for bad in ["state=x", "limit=0", "limit=101", "limit=x", "before=x", "unknown=1"] {
        client.get(&format!("/api/v1/jobs?{bad}")).problem(400);
    }
    // A page that does not change any more has a tag that lasts.
    let old = format!("/api/v1/jobs?limit=1&before={next}");
    let tag = client.get(&old).must(200).header("etag").unwrap().to_owned();
    assert!(client.get_with(&old, &[("If-None-Match", &tag)]).must(304).body.is_empty());
    assert_eq!(client.get_with(&old, &[("If-None-Match", "\"x\"")]).status, 200);
}

#[test]
fn a_job_has_its_sidecars_and_is_nobody_elses() {
    let shared = shared();
    let id = done("mine.pdf");
    let path = format!("/api/v1/jobs/{id}");
    let answer = shared.client.get(&path).must(200);
    let tag = answer.header("etag").unwrap().to_owned();
    let job = answer.json();
    for key in ["id", "account", "path", "state", "attempt", "received_at", "finished_at", "error", "deliveries"] {
        assert!(job.get(key).is_some(), "{key}: {job}");
    }
    let suffixes: Vec<&str> = job["sidecars"].as_array().unwrap().iter().map(|one| one["suffix"].as_str().unwrap()).collect();
    assert!(suffixes.contains(&"txt") && suffixes.contains(&"json"), "{suffixes:?}");
    shared.client.get_with(&path, &[("If-None-Match", &tag)]).must(304);
    for other in [path.as_str(), &format!("{path}/sidecars/txt"), "/api/v1/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/api/v1/jobs/x"] {
        assert!(shared.stranger.get(other).problem(404).contains("no such job"), "{other}");
    }
    shared.client.get(&format!("{path}/sidecars/exe")).problem(404);
    shared.client.get(&format!("{path}/sidecars/..%2F..%2Fx")).problem(404);
    shared.client.send("DELETE", &path, &[], b"").problem(405);
}

#[test]
fn sidecars_come_whole_or_in_ranges() {
    let client = &shared().client;
    let path = format!("/api/v1/jobs/{}/sidecars/txt", done("ranges.pdf"));
    let whole = client.get(&path).must(200);
    assert_eq!(whole.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert!(whole.header("content-disposition").unwrap().contains("ranges.pdf.txt"));
    let (tag, all) = (whole.header("etag").unwrap().to_owned(), whole.body.clone());
    assert!(whole.text().contains("Garden Club") && all.len() > 20);
    let part = client.get_with(&path, &[("Range", "bytes=3-9")]).must(206);
    assert_eq!(part.body, all[3..10]);
    assert_eq!(part.header("content-range"), Some(format!("bytes 3-9/{}", all.len()).as_str()));
    assert_eq!(client.get_with(&path, &[("Range", "bytes=-4")]).must(206).body, all[all.len() - 4..]);
    let outside = client.get_with(&path, &[("Range", "bytes=9999999-")]);
    assert_eq!(outside.header("content-range"), Some(format!("bytes */{}", all.len()).as_str()));
    outside.problem(416);
    assert_eq!(client.get_with(&path, &[("Range", "bytes=0-1"), ("If-Range", "\"other\"")]).must(200).body, all);
    client.get_with(&path, &[("Range", "bytes=0-1"), ("If-Range", &tag)]).must(206);
    client.get_with(&path, &[("If-None-Match", &tag)]).must(304);
    let head = client.send("HEAD", &path, &[], b"").must(200);
    assert_eq!(head.header("content-length"), Some(all.len().to_string().as_str()));
}

#[test]
fn signed_links_need_no_key_and_end() {
    let shared = shared();
    let id = done("linked.pdf");
    let job = shared.client.get(&format!("/api/v1/jobs/{id}")).must(200).json();
    let links: Vec<String> =
        job["sidecars"].as_array().unwrap().iter().map(|one| one["link"].as_str().unwrap().to_owned()).collect();
    let path = |link: &str| link[link.find("/d/").unwrap()..].to_owned();
    let nobody = crate::client::Client { address: shared.daemon.http, key: None };
    let fetched = nobody.get(&path(&links[0])).must(200);
    assert_eq!(fetched.header("cache-control"), Some("private, no-store"));
    assert!(fetched.header("etag").is_some());
    nobody.get_with(&path(&links[0]), &[("Range", "bytes=0-3")]).must(206);
    let mut wrong = path(&links[0]);
    wrong.replace_range(6..7, if &wrong[6..7] == "A" { "B" } else { "A" });
    let refused = nobody.get(&wrong);
    assert!(refused.problem(403).contains("wrong"));
    assert_eq!(refused.json()["code"], "wrong");
    shared.daemon.printed(&["links", "revoke", &links[0]]);
    assert_eq!(nobody.get(&path(&links[0])).json()["code"], "revoked");
    nobody.get(&path(&links[1])).must(200);
    shared.daemon.printed(&["links", "revoke", &id]);
    assert!(nobody.get(&path(&links[1])).problem(403).contains("revoked"));
    assert_eq!(shared.daemon.inkport(&["links", "revoke", "nonsense"]).status.code(), Some(1));
    nobody.get("/d/").problem(404);
}

#[test]
fn usage_counts_pages() {
    let shared = shared();
    let before = shared.stranger.get("/api/v1/usage").must(200).json();
    let used = |answer: &serde_json::Value| answer["usage"]["requests_used"].as_u64().unwrap();
    assert_eq!(before["usage"]["user"], "stranger");
    let fax = fixture("fax.tif");
    shared.stranger.post_form("/api/v1/ocr", &[], &[], Some(("fax.tif", &fax))).must(200);
    // Two pages, which is known once it was read.
    crate::common::wait_for("both pages to be counted", || {
        (used(&shared.stranger.get("/api/v1/usage").must(200).json()) >= used(&before) + 2).then_some(())
    });
}
