//! What devices say and must be answered: each file under `tests/dialogues/` is replayed against the
//! real door. A file named `qNN-…` is row NN of the list of device behaviours in `tests/dialogues/README.md`.

mod ftp_support;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dialogues"))
}

/// What does not hold yet, and why. A dialogue that begins to hold must be taken off the list: its test
/// fails until it is.
const OPEN: &[(&str, &str)] = &[];

/// Held at some runs and not at others, so that it can be asserted neither way: not replayed.
const UNSTEADY: &[(&str, &str)] = &[];

fn replay(file: &str) {
    if let Some((_, why)) = UNSTEADY.iter().find(|(open, _)| *open == file) {
        println!("skipped: {file}: {why}");
        return;
    }
    let path = folder().join(format!("{file}.ftp"));
    let Some((_, why)) = OPEN.iter().find(|(open, _)| *open == file) else {
        return ftp_support::dialogue::replay(&path);
    };
    let held = std::panic::catch_unwind(|| ftp_support::dialogue::replay(&path)).is_ok();
    assert!(!held, "{file} holds now: take it off OPEN in tests/ftp_dialogues.rs");
    println!("open: {file}: {why}");
}

macro_rules! dialogues {
    ($($test:ident => $file:literal,)*) => {
        $(
            #[test]
            fn $test() {
                replay($file);
            }
        )*

        const LISTED: &[&str] = &[$($file),*];
    };
}

dialogues! {
    contract_quota => "contract-quota",
    contract_refused_at_once => "contract-refused-at-once",
    contract_stalled_transfer => "contract-stalled-transfer",
    q01_opts_utf8_before_login => "q01-opts-utf8-before-login",
    q02_opts_mlst_after_feat => "q02-opts-mlst-after-feat",
    q03_active_only => "q03-active-only",
    q04_eprt => "q04-eprt",
    q05_listen_after_port => "q05-listen-after-port",
    q06_epsv_or_pasv => "q06-epsv-or-pasv",
    q07_allo => "q07-allo",
    q08_type => "q08-type",
    q09_ascii_keeps_bytes => "q09-ascii-keeps-bytes",
    q10_stou => "q10-stou",
    q11_preflight => "q11-preflight",
    q12_preflight_probe => "q12-preflight-probe",
    q13_pipelined_through_nc => "q13-pipelined-through-nc",
    q14_cwd_then_mkd => "q14-cwd-then-mkd",
    q15_lower_case_verbs => "q15-lower-case-verbs",
    q16_deep_path => "q16-deep-path",
    q16_deep_path_not_made => "q16-deep-path-not-made",
    q17_locks_and_control_files => "q17-locks-and-control-files",
    q18_long_paths => "q18-long-paths",
    q19_folders_checked_first => "q19-folders-checked-first",
    q20_same_name_again => "q20-same-name-again",
    q21_growing_files => "q21-growing-files",
    q22_temporary_name => "q22-temporary-name",
    q23_no_quit => "q23-no-quit",
    q24_tls_without_close_notify => "q24-tls-without-close-notify",
    q26_prot_and_pbsz => "q26-prot-and-pbsz",
    q27_names_in_a_charset => "q27-names-in-a-charset",
    q27_names_in_any_bytes => "q27-names-in-any-bytes",
    q28_odd_names => "q28-odd-names",
    q29_telnet_interrupt_before_abor => "q29-telnet-interrupt-before-abor",
    q30_cancel_looks_complete => "q30-cancel-looks-complete",
    q31_reset_over_an_old_file => "q31-reset-over-an-old-file",
    q32_listing_forms => "q32-listing-forms",
    q33_x_commands => "q33-x-commands",
    q34_quoted_paths => "q34-quoted-paths",
    q35_niceties => "q35-niceties",
    q36_noop_during_a_transfer => "q36-noop-during-a-transfer",
    q37_data_from_a_third_address => "q37-data-from-a-third-address",
    q38_passive_never_connected => "q38-passive-never-connected",
    q39_parallel_sessions => "q39-parallel-sessions",
    q40_backlog_again_and_again => "q40-backlog-again-and-again",
    q42_explorer_and_winscp => "q42-explorer-and-winscp",
    q43_login_again => "q43-login-again",
    q44_dual_stack => "q44-dual-stack",
    q44_ipv6 => "q44-ipv6",
    q45_many_behind_one_address => "q45-many-behind-one-address",
    rfc2428_epsv_all => "rfc2428-epsv-all",
    rfc3659_restart_and_facts => "rfc3659-restart-and-facts",
    rfc959_abor => "rfc959-abor",
    rfc959_errors_keep_the_session => "rfc959-errors-keep-the-session",
    rfc959_long_lines => "rfc959-long-lines",
    rfc959_stat_during_a_transfer => "rfc959-stat-during-a-transfer",
    tls_required_for_everything => "tls-required-for-everything",
}

#[test]
fn every_file_is_replayed_and_every_row_is_told() {
    let files: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".ftp").map(str::to_owned))
        .collect();
    assert_eq!(files, LISTED.iter().map(|file| (*file).to_owned()).collect(), "tests/ftp_dialogues.rs lists every file once");
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    for row in 1..=45 {
        let has_file = files.iter().any(|file| file.starts_with(&format!("q{row:02}-")));
        assert!(
            has_file || readme.contains(&format!("Q{row}:")),
            "row Q{row} has neither a dialogue nor a sentence in the README"
        );
        assert!(
            readme.contains(&format!("| Q{row} |")) || readme.contains(&format!("Q{row}:")),
            "the README does not tell Q{row}"
        );
    }
}
