// A browser for the tests: pages that remember what went wrong in them.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const required = (name) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; scripts/test_page.sh sets it`);
  return value;
};

export const address = required("SUBMASK_PAGE_ADDRESS").replace(/\/?$/, "/");
export const screenshots = required("SUBMASK_PAGE_SCREENSHOTS");
const packages = createRequire(join(required("SUBMASK_PAGE_PACKAGES"), "package.json"));
const { chromium } = packages("playwright-core");
const axe = readFileSync(packages.resolve("axe-core/axe.min.js"), "utf8");

mkdirSync(screenshots, { recursive: true });

export async function launch() {
  const options = { executablePath: required("SUBMASK_PAGE_CHROMIUM"), args: ["--no-sandbox", "--disable-dev-shm-usage"] };
  return chromium.launch(options);
}

/**
 * A page at the address with a fragment. `faults` collects errors of the console and of scripts, and requests to elsewhere.
 */
export async function visit(browser, { fragment = "", settle = true, token = process.env.SUBMASK_PAGE_TOKEN ?? "", ...options } = {}) {
  const usual = { viewport: { width: 1360, height: 900 }, permissions: ["clipboard-read", "clipboard-write"] };
  const context = await browser.newContext({ ...usual, ...options });
  await context.addInitScript((value) => value && sessionStorage.setItem("submask-token", value), token);
  const page = await context.newPage();
  const faults = [];
  page.on("console", (message) => message.type() === "error" && faults.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => faults.push(`script: ${error.message}`));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(address) && !/^(data|blob):/.test(url)) faults.push(`request to ${url}`);
  });
  page.setDefaultTimeout(30_000);
  await page.goto(address + fragment);
  if (settle) await finished(page);
  return { context, page, faults };
}

/** Waits until every run on the stage has its result, and goes to its end. */
export async function finished(page) {
  await page.waitForSelector(".panel");
  await page.waitForFunction(() => !document.getElementById("save-json").disabled, null, { timeout: 120_000 });
  await page.click("#to-end");
}

/** No violation that axe-core calls serious or critical. */
export async function accessible(page, what) {
  // The page's policy forbids scripts from elsewhere, so it is put in by the debugger.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const grave = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const words = grave.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target} ${node.failureSummary}`).join("; ")}`);
  assert.deepEqual(words, [], what);
}

export async function screenshot(page, name) {
  await page.evaluate(() => scrollTo(0, 0));
  // Colours and lengths change over a moment.
  await page.waitForTimeout(350);
  await page.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true });
}

/** The states of the chips of a run. */
export async function states(page, run = "a") {
  return page.$$eval(`.panel[data-run=${run}] .chip`, (chips) => chips.map((chip) => chip.dataset.state));
}

/** The digits that the chips of a run show, null being masked. */
export async function digits(page, run = "a") {
  return page.$$eval(`.panel[data-run=${run}] .chip`, (chips) =>
    chips.map((chip) => [...chip.querySelectorAll(".digit")].map(({ textContent }) => (textContent === "" ? null : Number(textContent)))),
  );
}

/** Moves the slider, as a user who drags it. */
export async function scrub(page, position) {
  await page.$eval(
    "#scrub",
    (slider, value) => {
      slider.value = String(value);
      slider.dispatchEvent(new Event("input", { bubbles: true }));
    },
    position,
  );
}

/** What a click on a button has the browser save. */
export async function saved(page, button) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(button)]);
  return { name: download.suggestedFilename(), bytes: readFileSync(await download.path()) };
}

export async function resultOf(page, run = "a") {
  return page.textContent(`.panel[data-run=${run}] .result-text`);
}
