//! The help of every verb.

use insta::assert_snapshot;

use super::submask;

#[test]
fn overview() {
    assert_snapshot!(submask(&["-h"]), @"
    exit code: 0
    ----- stdout -----
    Train, evaluate and sample discrete diffusion models with partial masking (MDM-Prime)

    Usage: submask [OPTIONS] <COMMAND>

    Commands:
      train        Train a model
      eval         Measure how well a model predicts text, images or points
      score        Tell how probable a model finds given texts
      sample       Write text, or draw images, with a model
      serve        Serve models over HTTP: completions, holes, scores, pictures, and a page that shows
                   how they resolve
      metrics      Measure images that a model generates against real ones
      logits       Write what the network says of partly masked sequences
      merge        Put together what calls with --shard computed
      data         Prepare and describe corpora
      import       Make a model of a checkpoint of another program
      export       Write a model for other programs
      info         Describe a model, a run, a token shard, a settings file or a checkpoint of another
                   program
      plot         Draw the training loss and the validation figures of a run as PNG and SVG
      bench        Measure training, evaluation and sampling of a text network on this machine
      samplers     List the published sampler settings of image models, with their published FID
      completions  Print what lets a shell complete verbs, flags and their values
      man          Print a manual page, or write all of them
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
          --threads <N>            Threads to compute with [default: one per core]
          --device <DEVICE>        Where to compute: auto (a GPU that answers, otherwise the CPU), cpu,
                                   or gpu:N; GPUs need a build with the cargo feature cuda, vulkan or
                                   wgpu [default: auto]
          --precision <PRECISION>  In which precision matrices are multiplied: fp32, tf32 (NVIDIA's GPUs
                                   through CUDA), or bf16 (CPUs with AVX-512 for it, some GPUs), where
                                   norms, softmax and the weights in training stay fp32 [default: fp32]

    Begin with:
      submask train                    learns from a dictionary that is built in, in a few minutes
      submask sample runs/dictionary   writes entries
      submask serve runs/dictionary    shows in a browser how they resolve

    Results are written to standard output; progress, messages and errors to standard error.

    Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 130 stopped by the user with a checkpoint.
    ----- stderr -----
    ");
    assert!(submask(&["--version"]).starts_with("exit code: 0\n----- stdout -----\nsubmask "));
}

#[test]
fn train() {
    assert_snapshot!(submask(&["train", "-h"]), @"
    exit code: 0
    ----- stdout -----
    Train a model

    Usage: submask train [OPTIONS]

    Options:
          --preset <P>             Settings to begin with: dictionary, text8, owt-small and owt-tiny for
                                   text, dictionary-block, text8-block and owt-block for text by blocks,
                                   emoji, fashion and cifar10 for images, toy for points of the plane
                                   [default: dictionary]
          --config <F.toml>        Settings file; keys it does not name keep the preset's values
          --data <PATH>...         Files of text, JSON, tables or parquet, or of images, and folders of
                                   them; - for standard input (data.paths)
          --valid <PATH>...        Text or images for validation, in files of their own: nothing of
                                   --data is held out then (data.valid_paths)
          --set <KEY=VALUE>...     Any setting by its key, such as train.steps=100 or model.hidden=256
          --out <RUN>              Run folder; it must not exist, but for --resume [default: runs/NAME,
                                   or runs/NAME-2, …, where NAME is the settings file's or the preset's]
          --steps <N>              Optimiser steps (train.steps)
          --seed <S>               Seed of everything random (train.seed)
          --resume                 Go on with a stopped run, from its newest checkpoint; without --out
                                   the newest runs/NAME-…
          --init <MODEL>           Begin with the weights of this model, run or checkpoint; its network,
                                   codes, schedule and tokenizer take the preset's place
          --subtokens <ℓ>          Sub-tokens per token ℓ; 1 is the ordinary masked diffusion model
                                   (codes.subtokens)
          --objective <OBJECTIVE>  Training loss (train.objective) [possible values: joint, marginal,
                                   cross-entropy]
          --image <FILE>           Picture whose darkness is the density of the points of --preset toy
                                   (data.image)
          --tui                    Full-screen dashboard; q or Ctrl-C stops with a checkpoint
      -h, --help                   Print help (see more with '--help')

    Global options:
          --threads <N>            Threads to compute with [default: one per core]
          --device <DEVICE>        Where to compute: auto (a GPU that answers, otherwise the CPU), cpu,
                                   or gpu:N; GPUs need a build with the cargo feature cuda, vulkan or
                                   wgpu [default: auto]
          --precision <PRECISION>  In which precision matrices are multiplied: fp32, tf32 (NVIDIA's GPUs
                                   through CUDA), or bf16 (CPUs with AVX-512 for it, some GPUs), where
                                   norms, softmax and the weights in training stay fp32 [default: fp32]

    Examples:
      submask train
      submask train --data corpus/ --subtokens 4 --out runs/mine
      submask train --preset emoji
      submask train --preset owt-tiny --data openwebtext/ --set train.batch_size=32 train.accumulate=16
      submask train --out runs/mine --resume
    ----- stderr -----
    ");
}

#[test]
fn eval() {
    assert_snapshot!(submask(&["eval", "-h"]), @"
    exit code: 0
    ----- stdout -----
    Measure how well a model predicts text, images or points

    Usage: submask eval [OPTIONS] <MODEL>

    Arguments:
      <MODEL>  Model folder, run (its newest checkpoint) or checkpoint folder

    Options:
          --checkpoint <WHICH>       Which checkpoint of a run: newest, best (of a run with
                                     train.keep_best), or its number of steps [default: newest]
          --data <PATH>...           Text or images to evaluate on, - for standard input [default: what
                                     the model's run held out]
          --split <SPLIT>            What in a text file of --data is a document [default: as the
                                     model's run, or else file] [possible values: file, line, paragraph]
          --field <NAME>             Field of JSON, or column of tables and parquet files, with the
                                     text: NAME, a.b, a[], a[].b [default: as the model's run, or else
                                     text]
          --prompt-field <NAME>      Field or column with the prompts, for a model of pairs [default: as
                                     the model's run, or else prompt]
          --completion-field <NAME>  Field or column with the completions, for a model of pairs
                                     [default: as the model's run, or else completion]
          --format <FORMAT>          Format of the files of --data [default: as the model's run, or else
                                     as their names say] [possible values: auto, text, json, csv, tsv,
                                     parquet, uint16, uint32]
          --join <TEXT>              What stands between the texts of a list [default: as the model's
                                     run, or else a line end]
          --separator <TEXT>         Text that divides documents wherever it stands [default: as the
                                     model's run, or else none]
          --skip-bad [<true|false>]  Skip records that cannot be read [default: as the model's run, or
                                     else false] [possible values: true, false]
          --by-document              Evaluate each document alone, as `submask score` scores it, instead
                                     of documents one behind the other in sequences of the model's
                                     length
          --end                      Charge one end of text after a text
          --stride <S>               Of a text longer than the model's sequences, charge S new tokens
                                     per window, given as many before them as fit [default: as many as
                                     fit, given the last token before them]
          --estimator <ESTIMATOR>    What is estimated [default: nelbo-subtoken; exact for
                                     autoregressive models] [possible values: nelbo-subtoken,
                                     nelbo-token, path, exact, orders, joint-objective]
          --draws <K>                Monte Carlo draws per sequence; of the estimator orders, orders per
                                     sequence [default: 1; for texts and documents that are scored one
                                     by one, 32]
          --steps <T>                Steps T of the sampler, of the estimator path; of models with
                                     blocks, steps per block [default: the model's]
          --order <ORDER>            Order of generation, of the estimator exact: left-to-right, or
                                     where the network is surest first (confidence, margin, entropy)
                                     [default: left-to-right]
          --unit <UNIT>              What is revealed at once, of the estimators exact and orders
                                     [default: token for exact, subtoken for orders] [possible values:
                                     subtoken, token]
          --per-step <N>             Units revealed per network evaluation, of the estimator exact; of
                                     models with blocks, units per block [default: 1]
          --seed <S>                 Seed of the draws [default: 0]
          --carry-over <true|false>  Whether tokens that contradict a visible digit are excluded; with a
                                     model trained without, this gives a bound of its own [default: the
                                     model's] [possible values: true, false]
          --batch <B>                Sequences per network call (affects speed only) [default: 16]
          --sequences <N>            Sequences, or documents, to evaluate, spread over all [default:
                                     all]
          --json                     Print JSON
      -h, --help                     Print help (see more with '--help')

    Images:
          --images <SET>   What the files of --data are [default: as the model's run] [possible values:
                           cifar10, cifar100, idx, npz, imagenet, pictures]
          --labels <FILE>  The file of labels of IDX images
          --part <PART>    Which images of the files of --data [default: what they hold out themselves,
                           as a folder val does, or else those to train on] [possible values: train,
                           valid, test]

    Several processes:
          --shard <i/n>        Do share i of n, from 0/n to (n−1)/n, and write it to a file; `submask
                               merge` makes of the files of all shares what one call without --shard
                               gives
          --shard-file <FILE>  File for the share [default: VERB-i-of-n.part]

    Global options:
          --threads <N>            Threads to compute with [default: one per core]
          --device <DEVICE>        Where to compute: auto (a GPU that answers, otherwise the CPU), cpu,
                                   or gpu:N; GPUs need a build with the cargo feature cuda, vulkan or
                                   wgpu [default: auto]
          --precision <PRECISION>  In which precision matrices are multiplied: fp32, tf32 (NVIDIA's GPUs
                                   through CUDA), or bf16 (CPUs with AVX-512 for it, some GPUs), where
                                   norms, softmax and the weights in training stay fp32 [default: fp32]
    ----- stderr -----
    ");
}

#[test]
fn score() {
    assert_snapshot!(submask(&["score", "-h"]), @"
    exit code: 0
    ----- stdout -----
    Tell how probable a model finds given texts

    Usage: submask score [OPTIONS] <--text <TEXT>|--completion <TEXT>|--data <FILE>> <MODEL>

    Arguments:
      <MODEL>  Model folder, run (its newest checkpoint) or checkpoint folder

    Options:
          --checkpoint <WHICH>       Which checkpoint of a run: newest, best (of a run with
                                     train.keep_best), or its number of steps [default: newest]
          --text <TEXT>              Text to score; may be given several times
          --prompt <TEXT>            Text that stands before --completion, given and not charged
          --completion <TEXT>        Text to score, given --prompt
          --data <FILE>              File of JSON, one object per line or one array, compressed or not,
                                     each with either text, or prompt and completion, and with an id if
                                     you like; - is standard input
          --by-token                 Tell what every token adds, of the estimator exact
          --end                      Charge one end of text after a text
          --stride <S>               Of a text longer than the model's sequences, charge S new tokens
                                     per window, given as many before them as fit [default: as many as
                                     fit, given the last token before them]
          --estimator <ESTIMATOR>    What is estimated [default: nelbo-subtoken; exact for
                                     autoregressive models] [possible values: nelbo-subtoken,
                                     nelbo-token, path, exact, orders, joint-objective]
          --draws <K>                Monte Carlo draws per sequence; of the estimator orders, orders per
                                     sequence [default: 1; for texts and documents that are scored one
                                     by one, 32]
          --steps <T>                Steps T of the sampler, of the estimator path; of models with
                                     blocks, steps per block [default: the model's]
          --order <ORDER>            Order of generation, of the estimator exact: left-to-right, or
                                     where the network is surest first (confidence, margin, entropy)
                                     [default: left-to-right]
          --unit <UNIT>              What is revealed at once, of the estimators exact and orders
                                     [default: token for exact, subtoken for orders] [possible values:
                                     subtoken, token]
          --per-step <N>             Units revealed per network evaluation, of the estimator exact; of
                                     models with blocks, units per block [default: 1]
          --seed <S>                 Seed of the draws [default: 0]
          --carry-over <true|false>  Whether tokens that contradict a visible digit are excluded; with a
                                     model trained without, this gives a bound of its own [default: the
                                     model's] [possible values: true, false]
          --batch <B>                Sequences per network call (affects speed only) [default: 16]
      -h, --help                     Print help (see more with '--help')

    Several processes:
          --shard <i/n>        Do share i of n, from 0/n to (n−1)/n, and write it to a file; `submask
                               merge` makes of the files of all shares what one call without --shard
                               gives
          --shard-file <FILE>  File for the share [default: VERB-i-of-n.part]

    Global options:
          --threads <N>            Threads to compute with [default: one per core]
          --device <DEVICE>        Where to compute: auto (a GPU that answers, otherwise the CPU), cpu,
                                   or gpu:N; GPUs need a build with the cargo feature cuda, vulkan or
                                   wgpu [default: auto]
          --precision <PRECISION>  In which precision matrices are multiplied: fp32, tf32 (NVIDIA's GPUs
                                   through CUDA), or bf16 (CPUs with AVX-512 for it, some GPUs), where
                                   norms, softmax and the weights in training stay fp32 [default: fp32]

    Examples:
      submask score runs/mine --text 'lantern: A case for a light.'
      submask score runs/mine --prompt 'lantern: ' --completion 'A case for a light.' --end
      submask score runs/mine --data questions.jsonl --draws 128 > scores.jsonl
      submask score runs/baseline --text 'The sea is wide.' --by-token
    ----- stderr -----
    ");
}

#[test]
fn sample() {
    assert_snapshot!(submask(&["sample", "-h"]), @r#"
    exit code: 0
    ----- stdout -----
    Write text, or draw images, with a model

    Usage: submask sample [OPTIONS] <MODEL>

    Arguments:
      <MODEL>  Model folder, run (its newest checkpoint) or checkpoint folder

    Options:
          --checkpoint <WHICH>       Which checkpoint of a run: newest, best (of a run with
                                     train.keep_best), or its number of steps [default: newest]
          --num <N>                  How many samples [default: 1]
          --steps <T|first-hitting>  Steps T of the time grid, per block of models with blocks; or
                                     first-hitting: no grid, sub-tokens one by one [default: the
                                     model's]
          --unit <UNIT>              What is revealed at once [default: subtoken] [possible values:
                                     subtoken, token]
          --order <ORDER>            Order in which masked units are revealed: random, left-to-right, or
                                     where the network is surest first (confidence, margin, entropy)
                                     [default: random]
          --per-step <N>             Units revealed per network evaluation, per block of models with
                                     blocks, with an order other than random [default: 1]
          --prompt <TEXT>            Text with holes: see above
          --prompts <FILE.jsonl>     JSON lines with a prompt each, or - for standard input: {"prompt":
                                     TEXT}, and with it, if wanted, "length" and "id". --num texts of
                                     each; text n of line i, both from 0, is number i·num + n under the
                                     seed
          --length <L>               Tokens of a text; a model that writes block by block writes texts
                                     of up to 1,048,576 tokens, and stops at the end of text [default:
                                     the model's sequence length]
          --window <WINDOW>          What blocks read of a text beyond the model's length: what was kept
                                     when the last tokens were written, or these tokens read anew for
                                     every block. Up to that length both are the same [default: the
                                     model's] [possible values: cached, recomputed]
          --seed <S>                 Seed; text n of a seed is the same whatever --num and --batch are
                                     [default: 0]
          --first-sequence <N>       Number of the first sample under the seed [default: 0]
          --temperature <τ|a,n,c>    Temperature τ of at least 0, which divides the logits; or a,n,c for
                                     τ(u) = a·uⁿ + c, u from 0 to 1 while a sample resolves [default:
                                     the model's]
          --top-p <p>                Nucleus: only the smallest set of most probable tokens whose
                                     probabilities add up to p, in (0, 1] [default: the model's]
          --nucleus <NUCLEUS>        Whether the nucleus keeps the token with which the sum crosses p
                                     [default: the model's] [possible values: inclusive, exclusive]
          --top-k <k>                Only the k most probable tokens; 0 keeps all [default: the model's]
          --min-entropy <H>          Of a model that writes block by block, the least entropy in nats of
                                     the last tokens, below which a text stops; 0 is off [default: the
                                     model's]
          --entropy-window <W>       Number of last tokens whose entropy --min-entropy bounds [default:
                                     the model's]
          --draw <DRAW>              How the digits of a token are drawn [default: the model's]
                                     [possible values: joint, marginal]
          --warp <a,n,c>             Time warp a,n,c of the grid: u becomes 1 − a(1 − u)ⁿ + c; n = 0 is
                                     off [default: the model's]
          --corrector <k,p,_|off>    Corrector k,p,unused of strength k·uᵖ(1 − u)ᵖ, or off [default: the
                                     model's]
          --carry-over <true|false>  Whether tokens that contradict a visible digit are excluded
                                     [default: the model's] [possible values: true, false]
          --batch <B>                Sequences sampled together; it does not change the samples
                                     [default: 8]
          --trace                    Show the text while it resolves: ▁▁▁ is a masked token, ░1/2░ one
                                     of whose 2 digits 1 is known. Of images, write a second picture, in
                                     which half-known pixels are the mean of what is left
          --json                     Print JSON
      -h, --help                     Print help (see more with '--help')

    Images and points:
          --out <FILE>             Picture to write, PNG [default: samples.png]
          --sampler <NAME>         Published sampler settings, which flags may change; `submask help
                                   samplers` lists them
          --label <CLASS|mixture>  Class, by name or number, or mixture: predictions averaged over all
                                   classes
          --given <FILE>           Picture of which a part is given: see --mask, --keep-digits and
                                   --keep-channels
          --mask <FILE>            Picture of the size of an image: what is white in it is drawn anew,
                                   the rest of --given is kept
          --keep-digits <N>        Of --given, keep this many digits of every token, the most
                                   significant ones
          --keep-channels <N,…>    Of --given, keep these channels, such as 0 or 0,2 (red and blue)

    Several processes:
          --shard <i/n>        Do share i of n, from 0/n to (n−1)/n, and write it to a file; `submask
                               merge` makes of the files of all shares what one call without --shard
                               gives
          --shard-file <FILE>  File for the share [default: VERB-i-of-n.part]

    Global options:
          --threads <N>            Threads to compute with [default: one per core]
          --device <DEVICE>        Where to compute: auto (a GPU that answers, otherwise the CPU), cpu,
                                   or gpu:N; GPUs need a build with the cargo feature cuda, vulkan or
                                   wgpu [default: auto]
          --precision <PRECISION>  In which precision matrices are multiplied: fp32, tf32 (NVIDIA's GPUs
                                   through CUDA), or bf16 (CPUs with AVX-512 for it, some GPUs), where
                                   norms, softmax and the weights in training stay fp32 [default: fp32]

    Examples:
      submask sample runs/dictionary --num 3
      submask sample runs/dictionary --prompt 'lantern: [[12]] light.' --trace
      submask sample runs/dictionary --prompt 'harbour: [[*]]' --order confidence --per-step 2
      submask sample runs/emoji --num 64 --out emoji.png --trace
    ----- stderr -----
    "#);
}

#[test]
fn data() {
    assert_snapshot!(submask(&["data", "prepare", "-h"]), @"
    exit code: 0
    ----- stdout -----
    Tokenize a corpus once, for runs to share

    Usage: submask data prepare [OPTIONS] --out <FOLDER>

    Options:
          --preset <P>          Settings to begin with: dictionary, text8, owt-small and owt-tiny for
                                text, dictionary-block, text8-block and owt-block for text by blocks,
                                emoji, fashion and cifar10 for images, toy for points of the plane
                                [default: dictionary]
          --config <F.toml>     Settings file; keys it does not name keep the preset's values
          --data <PATH>...      Files of text, JSON, tables or parquet, or of images, and folders of
                                them; - for standard input (data.paths)
          --valid <PATH>...     Text or images for validation, in files of their own: nothing of --data
                                is held out then (data.valid_paths)
          --set <KEY=VALUE>...  Any setting by its key, such as train.steps=100 or model.hidden=256
          --out <FOLDER>        Folder to write
          --rebuild             Replace a folder that was prepared from other files or with other
                                settings
      -h, --help                Print help (see more with '--help')

    Several processes:
          --shard <i/n>        Do share i of n, from 0/n to (n−1)/n, and write it to a file; `submask
                               merge` makes of the files of all shares what one call without --shard
                               gives
          --shard-file <FILE>  File for the share [default: VERB-i-of-n.part]

    Global options:
          --threads <N>            Threads to compute with [default: one per core]
          --device <DEVICE>        Where to compute: auto (a GPU that answers, otherwise the CPU), cpu,
                                   or gpu:N; GPUs need a build with the cargo feature cuda, vulkan or
                                   wgpu [default: auto]
          --precision <PRECISION>  In which precision matrices are multiplied: fp32, tf32 (NVIDIA's GPUs
                                   through CUDA), or bf16 (CPUs with AVX-512 for it, some GPUs), where
                                   norms, softmax and the weights in training stay fp32 [default: fp32]
    ----- stderr -----
    ");
    assert_snapshot!(submask(&["data", "info", "-h"]), @"
    exit code: 0
    ----- stdout -----
    Describe a prepared folder, or count the documents of a corpus

    Usage: submask data info [OPTIONS] [PATH]...

    Arguments:
      [PATH]...  Prepared folders, token shards, text files or folders, or - [default: the built-in
                 dictionary]

    Options:
          --verify  Read all tokens and compare them with their checksums
          --json    Print JSON
      -h, --help    Print help

    Global options:
          --threads <N>            Threads to compute with [default: one per core]
          --device <DEVICE>        Where to compute: auto (a GPU that answers, otherwise the CPU), cpu,
                                   or gpu:N; GPUs need a build with the cargo feature cuda, vulkan or
                                   wgpu [default: auto]
          --precision <PRECISION>  In which precision matrices are multiplied: fp32, tf32 (NVIDIA's GPUs
                                   through CUDA), or bf16 (CPUs with AVX-512 for it, some GPUs), where
                                   norms, softmax and the weights in training stay fp32 [default: fp32]
    ----- stderr -----
    ");
}

#[test]
fn info() {
    assert_snapshot!(submask(&["info", "-h"]), @"
    exit code: 0
    ----- stdout -----
    Describe a model, a run, a token shard, a settings file or a checkpoint of another program

    Usage: submask info [OPTIONS] <MODEL|RUN|FILE>

    Arguments:
      <MODEL|RUN|FILE>  Model folder, run folder, checkpoint folder, .tokens file, .toml settings,
                        tokenizer.json or what import may be given, also what it refuses, also by a name
                        hub://owner/repo[@revision][/path]

    Options:
          --json  Print JSON
      -h, --help  Print help

    Global options:
          --threads <N>            Threads to compute with [default: one per core]
          --device <DEVICE>        Where to compute: auto (a GPU that answers, otherwise the CPU), cpu,
                                   or gpu:N; GPUs need a build with the cargo feature cuda, vulkan or
                                   wgpu [default: auto]
          --precision <PRECISION>  In which precision matrices are multiplied: fp32, tf32 (NVIDIA's GPUs
                                   through CUDA), or bf16 (CPUs with AVX-512 for it, some GPUs), where
                                   norms, softmax and the weights in training stay fp32 [default: fp32]
    ----- stderr -----
    ");
}

#[test]
fn plot() {
    assert_snapshot!(submask(&["plot", "-h"]), @"
    exit code: 0
    ----- stdout -----
    Draw the training loss and the validation figures of a run as PNG and SVG

    Usage: submask plot [OPTIONS] <RUN>

    Arguments:
      <RUN>  Run folder

    Options:
          --out <DIR>  Folder for the charts [default: RUN/plots]
      -h, --help       Print help (see more with '--help')

    Global options:
          --threads <N>            Threads to compute with [default: one per core]
          --device <DEVICE>        Where to compute: auto (a GPU that answers, otherwise the CPU), cpu,
                                   or gpu:N; GPUs need a build with the cargo feature cuda, vulkan or
                                   wgpu [default: auto]
          --precision <PRECISION>  In which precision matrices are multiplied: fp32, tf32 (NVIDIA's GPUs
                                   through CUDA), or bf16 (CPUs with AVX-512 for it, some GPUs), where
                                   norms, softmax and the weights in training stay fp32 [default: fp32]
    ----- stderr -----
    ");
}
