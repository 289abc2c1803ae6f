document.querySelector("#app").textContent = greet("world");
