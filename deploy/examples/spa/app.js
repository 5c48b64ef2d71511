// A single-page application: it draws each page itself, and the address changes without a new page. The counter's script sees that by
// itself, counts the page of the new address, and fills the elements with data-visits as they come.
const recipes = {
  "/soup": ["Lentil soup", "Onions first, slowly. Then lentils, water, a bay leaf, and half an hour without looking."],
  "/flatbread": ["Flatbread", "Flour, yoghurt, salt. Rest, roll, and bake in a dry pan until it lifts itself."],
  "/salad": ["Fennel salad", "Cut it thinner than seems right. Lemon, oil, and a little of its own green."],
};

const element = (tag, attributes, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

const link = (path, text) => {
  const made = element("a", {href: path}, text);
  made.addEventListener("click", (event) => {
    event.preventDefault();
    history.pushState({}, "", path);
    draw();
  });
  return made;
};

const draw = () => {
  const recipe = recipes[location.pathname];
  document.title = recipe ? recipe[0] : "Recipes";
  const page = recipe
    ? [element("p", {}, link("/", "All recipes")), element("h1", {}, recipe[0]), element("p", {}, recipe[1]),
       element("p", {class: "visits"}, "Cooked ", element("span", {"data-visits": ""}), " times")]
    : [element("h1", {}, "Recipes"),
       element("ul", {}, ...Object.entries(recipes).map(([path, [name]]) =>
         element("li", {}, link(path, name), element("span", {class: "visits"}, element("span", {"data-visits": path}), " times"))))];
  document.querySelector("#app").replaceChildren(...page);
};

addEventListener("popstate", draw);
draw();
