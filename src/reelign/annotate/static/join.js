// The key stands behind the # of the link, which browsers send to no server and write into no log.
const token = location.hash.slice(1);
if (token) {
  history.replaceState(null, "", location.pathname);
  document.getElementById("token").value = token;
  document.getElementById("begin").hidden = false;
  for (const id of ["without", "named"]) document.getElementById(id)?.remove();
}
