// Pictures on the page in a real browser, against a server that runs. `scripts/test_page.sh ADDRESS` starts it.

import assert from "node:assert/strict";
import { describe } from "node:test";
import { PictureRun } from "../page/replay.js";
import { browser, imageModel, onPage, pixels, savedRuns } from "./pages.js";
import { accessible, address, finished, saved, screenshot, scrub, visit } from "./visit.js";

describe("images", { skip: imageModel ? false : "no model of images is served" }, () => {
  const link = `#${new URLSearchParams({ model: imageModel?.id ?? "", "a.seed": "2", "a.steps": "32" })}`;

  onPage("a picture resolves", { fragment: link }, async (page) => {
    const file = JSON.parse((await saved(page, "#save-json")).bytes);
    const run = new PictureRun();
    file.runs[0].events.forEach((event) => run.take(event));
    const shown = new Set();
    let sometimesPartial = false;
    for (let frame = 0; frame <= run.frames; frame += 1) {
      await scrub(page, frame);
      const source = await page.getAttribute(".picture", "src");
      assert.equal(source, `data:image/png;base64,${run.picture(frame).png}`);
      shown.add(source);
      const { counts } = run.picture(frame);
      const meter = page.locator(".panel .meter");
      assert.ok((await meter.getAttribute("aria-label")).includes(`${counts.masked} masked, ${counts.partial} partial, ${counts.clean} clean`));
      const parts = await meter.locator("span").evaluateAll((spans) => spans.map((span) => [span.dataset.state, Number(span.style.flexGrow)]));
      assert.deepEqual(Object.fromEntries(parts), counts);
      sometimesPartial ||= counts.partial > 0;
    }
    assert.ok(sometimesPartial, "some values are known in part on the way");
    assert.ok(shown.size > 5, `${shown.size} pictures`);
    assert.equal(run.picture(run.frames).png, run.finished.b64_json);
    assert.match(await page.getAttribute(".picture", "alt"), /colour values to fill in 0 masked, 0 partial, \d+ clean; 100 % of their digits known/);
    await page.waitForFunction(() => /Run A, evaluation \d+ of \d+\. Of \d+ colour values/.test(document.getElementById("live").textContent));
    await screenshot(page, "image-light");
    await accessible(page, "image");
    const png = await saved(page, "#save-png");
    assert.equal(png.bytes.toString("latin1", 1, 4), "PNG");
    await scrub(page, Math.round(run.frames / 2));
    await screenshot(page, "image-half");
  });

  onPage("what is painted over is drawn anew, and nothing else", { fragment: link }, async (page) => {
    const before = await pixels(page, await page.getAttribute(".picture", "src"));
    await page.click("#use-result");
    await page.waitForSelector("#paint");
    await page.click("#mask-none");
    const box = await page.locator("#paint").boundingBox();
    await page.mouse.move(box.x + 0.3 * box.width, box.y + 0.3 * box.height);
    await page.mouse.down();
    await page.mouse.move(box.x + 0.7 * box.width, box.y + 0.6 * box.height, { steps: 4 });
    await page.mouse.up();
    await page.focus("#paint");
    for (let i = 0; i < 4; i += 1) await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Space");
    await screenshot(page, "image-paint");
    await accessible(page, "paint");
    assert.notEqual(await page.inputValue("#a-seed"), "2", "the same seed would draw the same again");
    await page.fill("#a-seed", "5");
    assert.ok(await page.isVisible("#changed"));
    await page.click("#run");
    await finished(page);
    const file = JSON.parse((await saved(page, "#save-json")).bytes);
    const mask = await pixels(page, `data:image/png;base64,${file.runs[0].request.mask}`);
    const result = await pixels(page, await page.getAttribute(".picture", "src"));
    const masked = mask.filter((value, i) => i % 4 === 0 && value > 0).length;
    // The brush is large on a small picture.
    const of = mask.length / 4;
    assert.ok(masked > of / 50 && masked < of, `${masked} pixels of ${of} are masked`);
    result.forEach((value, i) => {
      if (mask[i - (i % 4)] === 0) assert.equal(value, before[i], `byte ${i} is given`);
    });
    assert.ok(result.some((value, i) => mask[i - (i % 4)] > 0 && value !== before[i]));
    const started = new PictureRun();
    started.take(file.runs[0].events[0]);
    const { known, counts } = started.picture(0);
    const channels = imageModel.submask.image.channels;
    assert.deepEqual([known, counts], [0, { masked: masked * channels, partial: 0, clean: 0 }], "what is given does not count");
    await screenshot(page, "image-filled");
  });

  onPage("a link holds a small picture and its mask", { fragment: link }, async (page) => {
    await page.click("#use-result");
    await page.waitForSelector("#paint");
    await page.click("#mask-none");
    await page.focus("#paint");
    for (const key of ["ArrowUp", "ArrowLeft", "Space"]) await page.keyboard.press(key);
    await page.fill("#a-seed", "6");
    await page.click("#run");
    await finished(page);
    await page.click("#share");
    await page.waitForFunction(() => /copied/.test(document.getElementById("share-state").textContent));
    assert.match(await page.textContent("#share-state"), /holds the picture and its mask/);
    const shared = await page.evaluate(() => navigator.clipboard.readText());
    const other = await visit(browser, { fragment: shared.slice(address.length) });
    assert.ok(await other.page.isVisible("#paint"));
    assert.equal(await other.page.textContent("#paint-state"), await page.textContent("#paint-state"));
    const [own, restored] = [(await savedRuns(page))[0].request, (await savedRuns(other.page))[0].request];
    for (const field of ["image", "mask"]) {
      const bytes = (text) => pixels(page, `data:image/png;base64,${text}`);
      assert.deepEqual(await bytes(restored[field]), await bytes(own[field]), field);
    }
    assert.equal(await other.page.getAttribute(".picture", "src"), await page.getAttribute(".picture", "src"));
    assert.ok(await other.page.isHidden("#changed"));
    await screenshot(other.page, "image-linked");
    // Another link without a picture takes it away.
    await other.page.evaluate((hash) => (location.hash = hash), link);
    await other.page.waitForSelector("#paint", { state: "hidden" });
    assert.deepEqual(other.faults, []);
    await other.context.close();
  });

  onPage("a link says that it does not hold a large picture, and so does who opens it", { fragment: link }, async (page) => {
    // The model's pictures are small: one of another model is as if it had larger ones.
    await page.route("**/v1/models", async (route) => {
      const answer = await (await route.fetch()).json();
      for (const { submask } of answer.data) if (submask.image) Object.assign(submask.image, { width: 96, height: 96 });
      await route.fulfill({ json: answer });
    });
    await page.reload();
    await finished(page);
    const noise = await page.evaluate(() => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 96, height: 96 });
      const context = canvas.getContext("2d");
      const data = context.createImageData(96, 96);
      crypto.getRandomValues(data.data);
      for (let i = 3; i < data.data.length; i += 4) data.data[i] = 255;
      context.putImageData(data, 0, 0);
      return canvas.toDataURL("image/png").split(",")[1];
    });
    await page.setInputFiles("#picture", { name: "noise.png", mimeType: "image/png", buffer: Buffer.from(noise, "base64") });
    await page.waitForSelector("#paint");
    await page.click("#share");
    await page.waitForFunction(() => /copied/.test(document.getElementById("share-state").textContent));
    assert.match(await page.textContent("#share-state"), /does not hold the picture, which is too large/);
    assert.match(page.url(), /picture=omitted/);
    await page.reload();
    await page.waitForSelector("#problem:not([hidden])");
    assert.match(await page.textContent("#problem"), /does not hold the picture that was filled in/);
  });

  onPage("a link whose picture cannot be restored says so", { fragment: `${link}&picture=iVBORw0KGgo&mask=AA` }, async (page) => {
    assert.match(await page.textContent("#problem"), /picture of this link is no PNG/);
    assert.ok(await page.isHidden("#paint"));
    // A PNG of the right size that ends behind its head.
    const { width, height } = imageModel.submask.image;
    const head = Buffer.from("89504e470d0a1a0a0000000d49484452".padEnd(58, "0"), "hex");
    head.writeUInt32BE(width, 16);
    head.writeUInt32BE(height, 20);
    const mask = Buffer.alloc(Math.ceil((width * height) / 8), 255).toString("base64url");
    await page.evaluate((hash) => (location.hash = hash), `${link}&picture=${head.toString("base64url")}&mask=${mask}`);
    await page.waitForFunction(() => /cannot be read/.test(document.getElementById("problem").textContent));
    assert.ok(await page.isHidden("#paint"));
  });

  const narrow = { viewport: { width: 360, height: 740 }, colorScheme: "dark" };
  onPage("a narrow, dark screen shows pictures, too", { fragment: link, ...narrow }, async (page) => {
    await page.click("#use-result");
    const wide = await page.evaluate(() => document.scrollingElement.scrollWidth);
    assert.ok(wide <= 360, `${wide} pixels wide`);
    await screenshot(page, "image-narrow-dark");
    await accessible(page, "narrow image");
  });
});
