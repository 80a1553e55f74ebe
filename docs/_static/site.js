// What scrolls can be reached with the keyboard.
document.addEventListener("DOMContentLoaded", () => {
    for (const box of document.querySelectorAll("pre, .table-wrapper, div.math, .sig"))
        if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    // Two landmarks of one kind need names.
    for (const [place, name] of [["sidebar-drawer", "Pages"], ["toc-drawer", "This page"]])
        document.querySelector(`aside.${place}`)?.setAttribute("aria-label", name);
    // A figure opens at its full size, for a phone.
    for (const image of document.querySelectorAll("article img")) {
        if (image.closest("a")) continue;
        const link = document.createElement("a");
        link.href = image.src;
        image.before(link);
        link.append(image);
    }
});
