// What scrolls can be reached with the keyboard.
document.addEventListener("DOMContentLoaded", () => {
    for (const box of document.querySelectorAll("pre, .table-wrapper, div.math, .sig"))
        if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
});
