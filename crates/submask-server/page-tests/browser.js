// Texts on the page in a real browser, against a server that runs. `scripts/test_page.sh ADDRESS` starts it.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { TextRun } from "../page/replay.js";
import { blockModel, browser, fragment, onPage, pixels, savedRuns, textModel, token } from "./pages.js";
import { accessible, address, digits, finished, resultOf, saved, screenshot, scrub, states, visit } from "./visit.js";

const template = "lantern:[[10]] light[[4]].";
const usual = { template, "a.seed": "3", "a.steps": "64" };

describe("text", { skip: textModel ? false : "no model of text with several digits per token is served" }, () => {
  onPage("a first visit shows masked, partial and clean tokens at once", { settle: false }, async (page) => {
    const seen = new Set();
    await page.waitForSelector(".panel .chip");
    for (let tries = 0; tries < 400 && !(seen.has("partial") && seen.has("clean")); tries += 1) {
      for (const state of await states(page)) seen.add(state);
      await page.waitForTimeout(20);
    }
    assert.ok(["masked", "partial", "clean", "given"].every((state) => seen.has(state)), [...seen].join());
    await screenshot(page, "text-playing");
    await finished(page);
    const figure = await page.$$eval("#example .chip", (chips) => chips.map((chip) => chip.dataset.state));
    assert.deepEqual(figure, ["masked", "partial", "clean"]);
    assert.equal(await page.locator(".panel .chip.outlined").count(), 1);
    assert.match(await page.textContent("#legend"), /Point at a token, or tap it/);
    await page.waitForFunction(() => /nats/.test(document.querySelector(".likelihood")?.textContent ?? ""));
    assert.match(await page.textContent(".likelihood"), /−log p ≤ [\d.]+ ± [\d.]+ nats.*upper bound/);
    assert.ok((await states(page)).every((state) => state === "clean" || state === "given"));
    await screenshot(page, "text-light");
    await accessible(page, "light");
  });

  onPage("a selection becomes a hole, and what is around it stays", { fragment: fragment(usual) }, async (page) => {
    await page.fill("#template", "lantern: a warm light here");
    await page.$eval("#template", (area) => area.setSelectionRange(10, 21));
    await page.waitForFunction(() => document.getElementById("make-hole").textContent.includes("warm light"));
    await page.fill("#hole-tokens", "5");
    await page.click("#make-hole");
    assert.equal(await page.inputValue("#template"), "lantern: a[[5]] here");
    await page.focus("#template");
    await page.keyboard.press("Control+z");
    assert.equal(await page.inputValue("#template"), "lantern: a warm light here");
    await page.fill("#template", "lantern: a[[5]] here");
    await page.click("#run");
    await finished(page);
    assert.match(await resultOf(page), /^lantern: a.* here/s);
    assert.equal((await states(page)).filter((state) => state === "clean").length, 5);
    await page.click(".result button");
    assert.equal(await page.inputValue("#template"), await resultOf(page));
  });

  onPage("every place of the slider is what the saved events replay to", { fragment: fragment(usual) }, async (page) => {
    const file = JSON.parse((await saved(page, "#save-json")).bytes);
    assert.equal(file.format, "submask-run");
    const { events, request } = file.runs[0];
    assert.equal(request.template, template);
    const run = new TextRun(textModel.submask.vocab_size);
    events.forEach((event) => run.take(event));
    assert.ok(run.frames > 4);
    const kinds = new Set();
    for (let frame = 0; frame <= run.frames; frame += 1) {
      await scrub(page, frame);
      assert.deepEqual(await digits(page), run.digits(frame), `frame ${frame}`);
      for (const state of await states(page)) kinds.add(state);
    }
    assert.deepEqual([...kinds].sort(), ["clean", "given", "masked", "partial"]);
    assert.equal(run.finished.text, await resultOf(page));
    const numbers = await page.$$eval(".statistics dd", (all) => all.map((one) => one.textContent));
    const { network_evaluations: evaluations, idle_steps: idle } = run.finished.usage;
    assert.deepEqual(numbers.slice(0, 2), [`${evaluations} of ${evaluations}`, String(idle)]);
    assert.equal(evaluations + idle, 64);
  });

  onPage("the likelihood is that of the tokens that were drawn", { fragment: fragment(usual) }, async (page) => {
    await page.waitForFunction(() => /nats/.test(document.querySelector(".likelihood")?.textContent ?? ""));
    const { events, score } = JSON.parse((await saved(page, "#save-json")).bytes).runs[0];
    const told = events.find(({ type }) => type === "scored");
    assert.deepEqual(told.score, score);
    assert.ok((await page.textContent(".nats")).includes(score.nats.toFixed(2)));
  });

  onPage("a run too large to score is shown, and scored when asked for", { fragment: fragment(usual), allowed: /status of 422/ }, async (page) => {
    await page.waitForSelector(".nats");
    const result = await resultOf(page);
    const likelihood = await page.textContent(".nats");
    const error = { message: "score: too much", type: "invalid_request_error", param: "score", code: null };
    await page.route("**/v1/infill", (route) => {
      const { score, stream } = route.request().postDataJSON();
      return score && stream ? route.fulfill({ status: 422, json: { error } }) : route.continue();
    });
    await page.click("#run");
    await page.waitForFunction(() => document.querySelector(".likelihood button"));
    await finished(page);
    assert.equal(await resultOf(page), result);
    assert.ok(await page.isHidden("#problem"));
    await page.click(".likelihood button");
    await page.waitForSelector(".nats");
    assert.equal(await page.textContent(".nats"), likelihood);
  });

  onPage("a form that was changed says so until it is run", { fragment: fragment(usual) }, async (page) => {
    assert.ok(await page.isHidden("#changed"));
    await page.fill("#a-seed", "4");
    assert.ok(await page.isVisible("#changed"));
    await page.fill("#a-seed", "3");
    assert.ok(await page.isHidden("#changed"));
    await page.fill("#template", "lantern: light");
    assert.ok(await page.isVisible("#changed"));
    assert.match(await page.textContent("#template-count"), /no hole/);
    await page.fill("#template", "lantern:[[3]]");
    await page.click("#run");
    await finished(page);
    assert.ok(await page.isHidden("#changed"));
  });

  onPage("a server that has gone is told, where its run would be", { fragment: fragment(usual), allowed: /ERR_FAILED/ }, async (page) => {
    await page.route("**/v1/infill", (route) => route.abort());
    await page.click("#run");
    await page.waitForSelector(".panel-status.field-error");
    assert.match(await page.textContent(".panel-status"), /does not answer/);
    assert.ok(await page.isHidden("#problem"));
  });

  onPage("a partial token tells its likeliest tokens with their probabilities", { fragment: fragment(usual) }, async (page) => {
    let frame = 1;
    for (; !(await states(page)).includes("partial"); frame += 1) await scrub(page, frame);
    await page.hover(".panel .chip[data-state=partial]");
    await page.waitForSelector(".inspector .bars li");
    const told = await page.textContent(".inspector");
    assert.match(told, /partial: \d+ of \d+ digits/);
    assert.match(told, /[\d,]+ of [\d,]+ tokens are still possible/);
    assert.match(told, /%/);
    await screenshot(page, "text-inspector");
    await accessible(page, "inspector");
    await page.keyboard.press("Escape");
    assert.ok(await page.isHidden(".inspector"));
  });

  onPage("play, pause, steps and speed move the clock", { fragment: fragment(usual) }, async (page) => {
    const at = () => page.inputValue("#scrub").then(Number);
    await page.click("#to-start");
    assert.equal(await at(), 0);
    await page.click("#forward");
    await page.click("#forward");
    await page.click("#back");
    assert.equal(await at(), 1);
    await page.selectOption("#speed", "0.25");
    await page.click("#play");
    assert.equal(await page.getAttribute("#play", "aria-label"), "Pause");
    await page.waitForFunction(() => Number(document.getElementById("scrub").value) > 1);
    await page.click("#play");
    const paused = await at();
    await page.waitForTimeout(600);
    assert.equal(await at(), paused);
    await page.selectOption("#speed", "16");
    await page.click("#play");
    await page.waitForFunction(() => document.getElementById("play").getAttribute("aria-label") === "Play");
    assert.equal(await at(), Number(await page.getAttribute("#scrub", "max")));
  });

  const compared = { ...usual, compare: "1", "b.seed": "4", "b.order": "left-to-right", "b.per_step": "2" };
  onPage("two runs share one clock", { fragment: fragment(compared) }, async (page) => {
    const file = JSON.parse((await saved(page, "#save-json")).bytes);
    const runs = file.runs.map(({ events }) => {
      const run = new TextRun(textModel.submask.vocab_size);
      events.forEach((event) => run.take(event));
      return run;
    });
    const [a, b] = runs;
    assert.equal(await page.getAttribute("#scrub", "max"), String(Math.max(a.frames, b.frames)));
    assert.ok(b.frames < a.frames);
    for (const position of [0, b.frames - 1, b.frames + 1, a.frames]) {
      await scrub(page, position);
      assert.deepEqual(await digits(page, "a"), a.digits(position));
      assert.deepEqual(await digits(page, "b"), b.digits(Math.min(position, b.frames)));
    }
    const idle = await page.$$eval(".panel", (panels) => panels.map((panel) => panel.querySelectorAll("dd")[1].textContent));
    assert.deepEqual(idle, runs.map((run) => String(run.finished.usage.idle_steps)));
    await page.waitForFunction(() => [...document.querySelectorAll(".nats")].length === 2);
    await scrub(page, Math.round(a.frames / 2));
    await screenshot(page, "compare-light");
    await accessible(page, "compare");
  });

  onPage("comparing begins with whole tokens, which are never partial", { fragment: fragment(usual) }, async (page) => {
    await page.check("#compare");
    await page.waitForSelector(".panel[data-run=b]");
    await finished(page);
    const length = Number(await page.getAttribute("#scrub", "max"));
    for (let position = 0; position <= length; position += 1) {
      await scrub(page, position);
      assert.ok(!(await states(page, "b")).includes("partial"));
    }
    assert.match(await page.textContent("#compare-note"), /proves nothing/);
    await page.uncheck("#compare");
    await finished(page);
    assert.equal(await page.locator(".panel").count(), 1);
    assert.ok(await page.isHidden("#compare-note"));
  });

  onPage("the clock of the process keeps the place", { fragment: fragment({ ...usual, clock: "time" }) }, async (page) => {
    assert.equal(await page.inputValue("#clock"), "time");
    await scrub(page, 500);
    assert.match(await page.textContent("#position"), /t = 0\.5/);
    const before = await digits(page);
    await page.selectOption("#clock", "evaluations");
    assert.deepEqual(await digits(page), before);
  });

  onPage("a link restores model, template, seed and settings, and gives the same result", { fragment: fragment(compared) }, async (page) => {
    await page.fill("#a-seed", "11");
    await page.click("#run");
    await finished(page);
    await page.click("#share");
    await page.waitForFunction(() => /copied|below/.test(document.getElementById("share-state").textContent));
    const link = await page.evaluate(() => navigator.clipboard.readText());
    const other = await visit(browser, { fragment: link.slice(address.length) });
    for (const id of ["#model", "#template", "#a-seed", "#a-steps", "#a-order", "#b-seed", "#b-order", "#b-per_step"]) {
      assert.equal(await other.page.inputValue(id), await page.inputValue(id), id);
    }
    assert.equal(await other.page.inputValue("#a-seed"), "11");
    for (const run of ["a", "b"]) assert.equal(await resultOf(other.page, run), await resultOf(page, run));
    assert.deepEqual(other.faults, []);
    await other.context.close();
  });

  onPage("warp and corrector are settings, which links and files hold", { fragment: fragment(usual) }, async (page) => {
    assert.ok(await page.isHidden("#a-corrector"), "they are behind More settings");
    await page.click("fieldset[data-run=a] .more summary");
    assert.ok(await page.isHidden("#a-window"), "without blocks there is no window");
    assert.match(await page.textContent("#a-corrector-help"), /Jumps/);
    await page.fill("#a-corrector", "4");
    await page.click("#run");
    assert.match(await page.textContent("#a-corrector-error"), /“4” is neither “off” nor two numbers/);
    await page.fill("#a-corrector", "4, 0.5");
    await page.fill("#a-warp", "1, 2, 0");
    await page.click("#run");
    await finished(page);
    const [{ request }] = await savedRuns(page);
    assert.deepEqual([request.corrector, request.warp], [[4, 0.5, 0], [1, 2, 0]]);
    await screenshot(page, "settings-light");
    await accessible(page, "settings");
    const other = await visit(browser, { fragment: new URL(page.url()).hash, viewport: { width: 360, height: 740 }, colorScheme: "dark" });
    assert.ok(await other.page.isHidden("#a-corrector"), "settings are closed on a narrow screen");
    await other.page.click("#settings > summary");
    assert.deepEqual([await other.page.inputValue("#a-corrector"), await other.page.inputValue("#a-warp")], ["4, 0.5", "1, 2, 0"]);
    assert.equal(await resultOf(other.page), await resultOf(page));
    await screenshot(other.page, "settings-narrow-dark");
    await accessible(other.page, "narrow settings");
    assert.deepEqual(other.faults, []);
    await other.context.close();
    await page.selectOption("#a-order", "left-to-right");
    assert.ok(await page.isHidden("#a-corrector"), "without a grid there are no jumps");
    await page.click("#run");
    await finished(page);
    assert.ok(!("corrector" in (await savedRuns(page))[0].request));
  });

  onPage("a window is a setting of what writes block by block", { fragment: fragment(usual) }, async (page) => {
    // As if the model had blocks; the server is not asked for the window, which it would refuse.
    await page.route("**/v1/models", async (route) => {
      const answer = await (await route.fetch()).json();
      for (const { submask } of answer.data) submask.block_len = 16;
      await route.fulfill({ json: answer });
    });
    await page.route("**/v1/infill", (route) => {
      const { window, ...others } = route.request().postDataJSON();
      return route.continue({ postData: JSON.stringify(others) });
    });
    await page.reload();
    await finished(page);
    await page.click("fieldset[data-run=a] .more summary");
    assert.equal(await page.inputValue("#a-window"), "cached");
    assert.match(await page.textContent("#a-window-help"), /read anew for every block/);
    await page.selectOption("#a-window", "recomputed");
    await page.click("#run");
    await finished(page);
    assert.equal((await savedRuns(page))[0].request.window, "recomputed");
    assert.match(page.url(), /a\.window=recomputed/);
    await page.reload();
    await finished(page);
    assert.equal(await page.inputValue("#a-window"), "recomputed");
  });

  onPage("a link with what the page does not know says so", { fragment: fragment({ ...usual, "a.colour": "red" }) }, async (page) => {
    assert.match(await page.textContent("#problem"), /a\.colour/);
    assert.equal(await page.inputValue("#a-seed"), "3");
  });

  onPage("a run is saved as JSON and as PNG", { fragment: fragment(usual) }, async (page) => {
    const json = await saved(page, "#save-json");
    const file = JSON.parse(json.bytes);
    assert.match(json.name, /\.json$/);
    assert.equal(file.link, page.url());
    assert.equal(file.model.id, textModel.id);
    assert.ok(file.runs[0].events.some(({ type }) => type === "finished"));
    const png = await saved(page, "#save-png");
    assert.match(png.name, /\.png$/);
    assert.equal(png.bytes.toString("latin1", 1, 4), "PNG");
    assert.ok(png.bytes.readUInt32BE(16) >= 1000 && png.bytes.readUInt32BE(20) >= 300);
    const colours = await coloursOf(page, `data:image/png;base64,${png.bytes.toString("base64")}`);
    assert.ok(colours > 20, `${colours} colours`);
  });

  onPage("everything works by keyboard alone", { fragment: fragment(usual), settle: false }, async (page) => {
    await page.waitForSelector(".chip[data-token]");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
    await tabTo(page, "#template");
    await page.keyboard.press("Control+a");
    await page.keyboard.type("lamp: [[6]] light");
    await page.keyboard.press("Control+Enter");
    await page.waitForFunction(() => document.querySelectorAll(".chip[data-token]").length > 6);
    await page.waitForFunction(() => !document.getElementById("save-json").disabled);
    await tabTo(page, "#play");
    if ((await page.getAttribute("#play", "aria-label")) === "Pause") await page.keyboard.press("Space");
    await tabTo(page, "#scrub");
    await page.keyboard.press("Home");
    for (let i = 0; i < 3; i += 1) await page.keyboard.press("ArrowRight");
    assert.equal(await page.inputValue("#scrub"), "3");
    await tabTo(page, ".chips .chip");
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("End");
    assert.equal(await page.evaluate(() => document.activeElement.dataset.token), String((await states(page)).length - 1));
    await page.waitForSelector(".inspector:not([hidden])");
    await tabTo(page, "#share");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.getElementById("share-state").textContent !== "");
    await page.waitForFunction(() => /Run A, evaluation/.test(document.getElementById("live").textContent));
  });

  onPage("wrong input is told at its field", { fragment: fragment(usual), allowed: /status of 4/ }, async (page) => {
    await page.fill("#template", "a [[0]] b");
    await page.click("#run");
    assert.match(await page.textContent("#template-error"), /not a hole/);
    await page.fill("#template", `a [[${textModel.submask.longest_text + 1}]] b`);
    await page.click("#run");
    await page.waitForSelector("#template-error:not([hidden]), #problem:not([hidden])");
    await page.fill("#template", template);
    await page.fill("#a-seed", "-1");
    await page.click("#run");
    assert.match(await page.textContent("#a-seed-error"), /“-1” is not a whole number/);
    assert.equal(await page.getAttribute("#a-seed", "aria-invalid"), "true");
    await screenshot(page, "text-error");
    await accessible(page, "error");
  });

  const narrow = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };
  onPage("a narrow screen needs no horizontal scrolling", { fragment: fragment(compared), ...narrow }, async (page) => {
    await scrub(page, 9);
    const wide = await page.evaluate(() => document.scrollingElement.scrollWidth);
    assert.ok(wide <= 360, `${wide} pixels wide`);
    await screenshot(page, "narrow");
    await accessible(page, "narrow");
  });

  onPage("a run waits until it is seen", { fragment: fragment(usual), ...narrow, settle: false }, async (page) => {
    await page.waitForFunction(() => !document.getElementById("save-json").disabled);
    await page.waitForTimeout(300);
    assert.equal(await page.inputValue("#scrub"), "0");
    await page.click("#run");
    await page.waitForFunction(() => Number(document.getElementById("scrub").value) > 0);
  });

  onPage("dark by the system's choice and by the switch", { fragment: fragment(compared), colorScheme: "dark" }, async (page) => {
    const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const dark = await background();
    await scrub(page, 9);
    await screenshot(page, "compare-dark");
    await accessible(page, "dark");
    await page.click("#theme");
    assert.match(await page.textContent("#theme"), /light/);
    const light = await background();
    assert.notEqual(light, dark);
    await page.click("#theme");
    assert.equal(await background(), dark);
    await page.reload();
    await page.waitForSelector(".panel");
    assert.match(await page.textContent("#theme"), /dark/);
  });

  onPage("with less motion nothing moves by itself", { reducedMotion: "reduce", settle: false }, async (page) => {
    await page.waitForFunction(() => !document.getElementById("save-json").disabled);
    await page.waitForFunction(() => Number(document.getElementById("scrub").value) > 0);
    const at = await page.inputValue("#scrub");
    await page.waitForTimeout(700);
    assert.equal(await page.inputValue("#scrub"), at);
    assert.equal(await page.getAttribute("#play", "aria-label"), "Play");
    const { size } = new Set(await states(page));
    assert.ok(size >= 3, "the half-way state shows what partial masking is");
  });

  onPage("the token stays in this tab only", { fragment: fragment(usual), token: token ?? "another" }, async (page, context) => {
    await page.click("#token-open");
    await accessible(page, "dialog");
    await page.fill("#token-input", token ?? "something");
    await page.keyboard.press("Enter");
    await finished(page);
    assert.equal(await page.evaluate(() => sessionStorage.getItem("submask-token")), token ?? "something");
    assert.equal(await page.evaluate(() => localStorage.getItem("submask-token")), null);
    assert.deepEqual((await context.cookies()).length, 0);
  });
});

test("a server that asks for a token gets one", { skip: token ? false : "this server asks for none" }, async () => {
  const { page, context } = await visit(browser, { settle: false, token: "" });
  await page.waitForSelector("#token-dialog[open]");
  await page.keyboard.press("Escape");
  assert.match(await page.textContent("#panels"), /asks for an access token/);
  await page.click("#run");
  await page.waitForSelector("#token-dialog[open]");
  assert.ok(await page.isHidden("#problem"));
  await page.fill("#token-input", "wrong");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("token-dialog").open);
  await page.fill("#token-input", token);
  await page.keyboard.press("Enter");
  await finished(page);
  await context.close();
});

describe("blocks", { skip: blockModel ? false : "no model that writes block by block is served" }, () => {
  const link = blockModel && fragment({ template: "lantern:[[*]]", "a.steps": "4", "a.window": "recomputed", "a.length": "32" }, blockModel);
  onPage("a model that writes block by block has a window", { fragment: link, colorScheme: "dark" }, async (page) => {
    assert.equal(await page.inputValue("#a-window"), "recomputed");
    assert.match(await page.textContent("#a-window-help"), /read anew/);
    assert.equal((await savedRuns(page))[0].request.window, "recomputed");
    assert.equal(await page.getAttribute("#a-window", "aria-describedby"), "a-window-help a-window-error");
    await screenshot(page, "settings-blocks-dark");
    await accessible(page, "blocks");
  });
});

/** Presses Tab until what is meant has the focus. */
async function tabTo(page, selector) {
  for (let i = 0; i < 80; i += 1) {
    await page.keyboard.press("Tab");
    if (await page.evaluate((wanted) => document.activeElement.matches(wanted), selector)) return;
  }
  assert.fail(`the Tab key does not come to ${selector}`);
}

/** How many colours a picture has. */
async function coloursOf(page, source) {
  const bytes = Uint8Array.from(await pixels(page, source));
  return new Set(new Uint32Array(bytes.buffer)).size;
}
