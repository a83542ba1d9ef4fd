//! The jobs in the documentation run, and give the results that it shows.

use crate::support::Folder;

const JOBS: &str = include_str!("../../../docs/jobs.md");

/// A block of code, with what it is called.
struct Block<'a> {
    name: &'a str,
    text: &'a str,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    for fenced in text.split("\n```").skip(1).step_by(2) {
        let (info, text) = fenced.split_once('\n').unwrap();
        let (_, name) = info.split_once(' ').unwrap();
        blocks.push(Block { name, text });
    }
    blocks
}

#[test]
fn every_job_in_the_documentation_runs() {
    let (tasks, _) = JOBS.split_once("\n# Reference").unwrap();
    let mut ran = 0;
    for task in tasks.split("\n### ").skip(1) {
        let title = task.lines().next().unwrap();
        if task.contains("rocksdb") && !cfg!(feature = "rocksdb") {
            continue;
        }
        let blocks = blocks(task);
        let (jobs, others): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|block| block.name == "job.toml");
        let [job] = jobs.as_slice() else { panic!("{title}: {} jobs", jobs.len()) };
        let folder = Folder::new(job.text);
        let (files, results): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|block| block.name.contains('.'));
        for file in files {
            folder.write(file.name, &format!("{}\n", file.text));
        }
        let checked = folder.strandline(&["check", "job.toml"]);
        assert_eq!(checked.code(), 0, "{title}: {}{}", checked.stdout(), checked.stderr());
        folder.run(&[]);
        for result in results {
            let wanted: Vec<_> = result.text.lines().map(str::to_owned).collect();
            assert_eq!(folder.results(result.name), wanted, "{title}");
        }
        ran += 1;
    }
    assert!(ran >= 7, "{ran} jobs");
}
